"""The result of an inversion, saved as one safetensors file.

It contains all data that a replay needs, except the model and the maps, class labels and tokens of its condition.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.formats import INVERSION, Format
from sfumato.inversion.stored import ENTRIES, problems


@dataclass(frozen=True, eq=False)
class Inversion:
    """Inversion of a batch of images of the same size.

    Attributes:
        kind: name of the inversion, e.g. "edit-friendly".
        x: latents of the run: x[0] = x_T, x[i] is the latent at which step i starts, x[-1] is the encoded image x_0.
        z: noise maps, z[i] for step i; None for a deterministic inversion without residuals.
        timesteps: timesteps of the run, in descending order.
        eta: 0 (DDIM) to 1 (DDPM).
        guidance_scales: guidance scale of the source prompt, per image.
        seeds: one per image, or ().
        prompts: source prompts, one per image, or ().
        parameters: parameters of the inversion method, as JSON values.
        model: fingerprint of the model's weights; "" if it is not recorded yet.
        images: fingerprints of the pixels, one per image, or ().
        pixels: the source images, uint8 sRGB.
        names: names of the files of the images, without folders, one per image, or ().
    """

    FORMAT: ClassVar[Format] = INVERSION

    kind: str
    x: Float[Tensor, "levels b c h w"]
    z: Float[Tensor, "steps b c h w"] | None
    timesteps: tuple[int, ...]
    eta: float
    guidance_scales: tuple[float, ...]
    seeds: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    images: tuple[str, ...] = ()
    pixels: UInt8[Tensor, "b height width 3"] | None = None
    names: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Number of steps of the run."""
        return len(self.timesteps)

    @property
    def x0(self) -> Float[Tensor, "b c h w"]:
        """x_0: the encoded images, [b,c,h,w]."""
        return self.x[-1]

    def rows(self, index: list[int]) -> "Inversion":
        """Select images by index; an index may occur several times."""

        def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[j] for j in index) if values else ()

        return replace(
            self,
            x=self.x[:, index],
            z=None if self.z is None else self.z[:, index],
            guidance_scales=pick(self.guidance_scales),
            seeds=pick(self.seeds),
            prompts=pick(self.prompts),
            images=pick(self.images),
            pixels=None if self.pixels is None else self.pixels[index],
            names=pick(self.names),
        )

    @staticmethod
    def cat(inversions: Sequence["Inversion"]) -> "Inversion":
        """Concatenate inversions with the same settings; fields that are not per image are those of the first one."""
        first, z = inversions[0], [each.z for each in inversions if each.z is not None]
        pixels = [each.pixels for each in inversions if each.pixels is not None]
        return replace(
            first,
            x=torch.cat([each.x for each in inversions], dim=1),
            z=torch.cat(z, dim=1) if z else None,
            guidance_scales=sum((each.guidance_scales for each in inversions), ()),
            seeds=sum((each.seeds for each in inversions), ()),
            prompts=sum((each.prompts for each in inversions), ()),
            images=sum((each.images for each in inversions), ()),
            pixels=torch.cat(pixels) if pixels else None,
            names=sum((each.names for each in inversions), ()),
        )

    def to(self, device: torch.device | str) -> "Inversion":
        """Move latents and noise maps to a device."""
        return replace(self, x=self.x.to(device), z=None if self.z is None else self.z.to(device))

    def check_model(self, fingerprint: str) -> None:
        """Check that the inversion was computed with the model of this fingerprint.

        Raises:
            BadInput: the fingerprints differ.
        """
        if self.model and self.model != fingerprint:
            raise BadInput(
                f"This inversion was made with another model, or in another precision (weights {self.model[:12]}, "
                f"not {fingerprint[:12]}): load that model, or invert the image again."
            )

    def check_fits(self, train_steps: int, latent: tuple[int, ...]) -> None:
        """Check that the schedule and the latents of a model fit this inversion.

        Args:
            train_steps: number of timesteps of the model's schedule.
            latent: shape (c, h, w) of the latent to which the model's autoencoder encodes one of the images.

        Raises:
            BadInput: a timestep is outside of the schedule, or the latents have another shape.
        """
        if self.timesteps[0] >= train_steps:
            raise BadInput(
                f"This inversion has the timestep {self.timesteps[0]}, but this model has only 0 to {train_steps - 1}: "
                "load the model that made it, or invert the image again."
            )
        if self.x.shape[2:] != latent:
            raise BadInput(
                f"This inversion has latents of shape {list(self.x.shape[2:])} and this model {list(latent)} for its "
                "images: load the model that made it, or invert the image again."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, atomically.

        Raises:
            BadInput: the folder does not exist or cannot be written.
        """
        tensors = {"x": self.x, "z": self.z, "pixels": self.pixels}
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        self.FORMAT.write(path, {name: getattr(self, name) for name in ENTRIES}, present)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Inversion":
        """Read a file that `save` wrote. The content is validated, because it may come from an untrusted source.

        Raises:
            BadInput: the file does not exist, is not an inversion, or is inconsistent.
        """

        def assemble(header: Any, tensors: dict[str, Tensor]) -> Inversion:
            for problem in problems(header, tensors):
                raise BadInput(f"{printable(path)} is damaged: {problem}; invert the image again.")
            return _assemble(header, tensors)

        return Inversion.FORMAT.read(path, assemble)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> Inversion:
    """Convert lists of JSON to tuples, and eta and the guidance scales to floats."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in header.items()}
    values |= {"eta": float(header["eta"]), "guidance_scales": tuple(map(float, header["guidance_scales"]))}
    return Inversion(x=tensors["x"], z=tensors.get("z"), pixels=tensors.get("pixels"), **values)
