"""An inversion as a value: everything that a replay needs, and one safetensors file to keep it in."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.formats import Format
from sfumato.inversion.stored import problems


@dataclass(frozen=True, eq=False)
class Inversion:
    """Images of one size, inverted together.

    Attributes:
        kind: name of the inversion, e.g. "edit-friendly".
        x: the latents of the run: x[0] = x_T, x[i] is where step i starts, x[-1] = x_0 as encoded.
        z: the noise map of every step, z[i] of step i; None for a deterministic inversion.
        timesteps: the run, largest first.
        eta: 0 (DDIM) to 1 (DDPM).
        guidance_scales: of the source prompt, per image.
        seeds: per image.
        prompts: source prompt, per image.
        parameters: the method's parameters, as JSON values.
        model: fingerprint of the network's weights; "" until saved.
        images: fingerprint of the pixels, per image.
        pixels: the source pictures, uint8 sRGB.
    """

    FORMAT: ClassVar[Format] = Format("sfumato.inversion.2", "an inversion", "invert the image again")

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

    @property
    def steps(self) -> int:
        """Number of steps of the run."""
        return len(self.timesteps)

    @property
    def x0(self) -> Float[Tensor, "b c h w"]:
        """The encoded images."""
        return self.x[-1]

    def rows(self, index: list[int]) -> "Inversion":
        """Some of the images, or one of them several times."""

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
        )

    @staticmethod
    def cat(inversions: Sequence["Inversion"]) -> "Inversion":
        """Inversions of one run, one picture after the other; what is not said of each picture is the first's."""
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
        )

    def to(self, device: torch.device | str) -> "Inversion":
        """The same inversion on another device."""
        return replace(self, x=self.x.to(device), z=None if self.z is None else self.z.to(device))

    def check_model(self, fingerprint: str) -> None:
        """Refuse to replay with another model than the one that made this inversion.

        Raises:
            BadInput: the fingerprints differ.
        """
        if self.model and self.model != fingerprint:
            raise BadInput(
                f"This inversion was made with another model, or in another precision (weights {self.model[:12]}, "
                f"not {fingerprint[:12]}): load that one, or invert the image again."
            )

    def check_fits(self, train_steps: int, latent: tuple[int, ...]) -> None:
        """Refuse to replay with a network of another schedule, or of other latents for these pictures.

        Args:
            train_steps: timesteps of the network's schedule.
            latent: shape (c, h, w) of one of the pictures under the network's autoencoder.

        Raises:
            BadInput: a timestep outside of the schedule, or other latents.
        """
        if self.timesteps[0] >= train_steps:
            raise BadInput(
                f"This inversion has the timestep {self.timesteps[0]} and this model's last is {train_steps - 1}: "
                "load the model that made it, or invert the image again."
            )
        if self.x.shape[2:] != latent:
            raise BadInput(
                f"This inversion has latents {list(self.x.shape[2:])} and this model {list(latent)} for its pictures: "
                "load the model that made it, or invert the image again."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, which is there whole or not at all.

        Raises:
            BadInput: the folder does not exist or cannot be written.
        """
        names = ("kind", "timesteps", "eta", "guidance_scales", "seeds", "prompts", "parameters", "model", "images")
        tensors = {"x": self.x, "z": self.z, "pixels": self.pixels}
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        self.FORMAT.write(path, {name: getattr(self, name) for name in names}, present)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Inversion":
        """Read what `save` wrote, and look at everything in it: files may come from anywhere.

        Raises:
            BadInput: no such file, not an inversion, or one whose parts do not belong together.
        """

        def assemble(header: Any, tensors: dict[str, Tensor]) -> Inversion:
            for problem in problems(header, tensors):
                raise BadInput(f"{printable(path)} is damaged: {problem}; invert the image again.")
            return _assemble(header, tensors)

        return Inversion.FORMAT.read(path, assemble)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> Inversion:
    """Lists of JSON become tuples again, integers the floats that they stand for."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in header.items()}
    values |= {"eta": float(header["eta"]), "guidance_scales": tuple(map(float, header["guidance_scales"]))}
    return Inversion(x=tensors["x"], z=tensors.get("z"), pixels=tensors.get("pixels"), **values)
