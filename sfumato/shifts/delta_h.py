"""delta-h: the change of h, the output of the middle block, for one attribute in Asyrp (arXiv 2210.10960, section 3.3).

`sfumato train delta-h` trains it. The file contains the weights (see `sfumato.shifts.delta_networks`), the interval of
the edit, and the model, layer and timesteps with which they were trained.
"""

import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.formats import DELTA_H, Format
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.encoder_half import MIDDLE
from sfumato.shifts.delta_networks import KINDS, MOST_FACTOR, DeltaNetwork, Shape, build, shape_of


@dataclass(frozen=True, eq=False)
class DeltaH:
    """A trained delta-h with the model, layer and run that it belongs to.

    Attributes:
        network: computes dh_t from h and t.
        attribute: name of the attribute.
        source: text that describes the images before the edit.
        target: text that describes them after it.
        model: fingerprint of the model.
        shape: shape (c, h, w) of h in training.
        timesteps: timesteps at which it was trained, in descending order; all are at least `t_edit`.
        steps: number of steps of the training run, including those below `t_edit`.
        t_edit: delta-h is added at timesteps t >= t_edit.
        t_boost: quality boosting is applied at timesteps t < t_boost.
        layer: module whose output is h.
    """

    FORMAT: ClassVar[Format] = DELTA_H

    network: DeltaNetwork
    attribute: str
    source: str
    target: str
    model: str
    shape: Shape
    timesteps: tuple[int, ...]
    steps: int
    t_edit: int
    t_boost: int
    layer: str = MIDDLE

    @property
    def kind(self) -> str:
        """Kind of the network: "block" or "steps"."""
        return self.network.kind

    @property
    def factor(self) -> float:
        """k, the factor of the output of the network."""
        return self.network.factor

    def __call__(self, h: Float[Tensor, "rows c h w"], t: int) -> Float[Tensor, "rows c h w"]:
        """Compute dh_t for h at timestep t, in float32; a single row if it does not depend on the image."""
        return self.network(h.float(), t)

    def on(self, device: torch.device | str) -> "DeltaH":
        """Return this delta-h on a device: itself if it is there already, otherwise a copy."""
        if next(self.network.parameters()).device == torch.device(device):
            return self
        network = build(self.kind, self.timesteps, self.shape, self.factor)
        network.load_state_dict(self.network.state_dict())
        return replace(self, network=network.to(device).requires_grad_(False))

    def check_fits(self, network: DiffusionModel, size: tuple[int, int]) -> None:
        """Check that it was trained for this model and layer and, for the kind "steps", for this size of h.

        Args:
            network: the model; it is not evaluated.
            size: height and width of the latents.

        Raises:
            BadInput: one of them differs; the message says which.
        """
        shape, problem = shape_of(network, size), ""
        if self.layer != MIDDLE:
            problem = f"for the layer {self.layer[:40]}, but h is the output of {MIDDLE}"
        elif self.model != network.fingerprint():
            problem = (
                f"for another model or precision (weights {self.model[:12]}, not {network.fingerprint()[:12]}): load "
                "that model"
            )
        elif self.shape[0] != shape[0] or (self.kind == "steps" and self.shape != shape):
            problem = f"for h of the shape {list(self.shape)}, not {list(shape)}"
        if problem:
            raise BadInput(f'The delta-h "{self.attribute}" was trained {problem}, or train it again.')

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, atomically. Raises BadInput if it cannot be written."""
        self.FORMAT.write(path, {name: getattr(self, name) for name in _FIELDS}, self.network.state_dict())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "DeltaH":
        """Read a file that `save` wrote.

        Raises:
            BadInput: the file does not exist, is not a delta-h, or is damaged.
        """
        return DeltaH.FORMAT.read(path, _assemble)


_TEXTS = ("attribute", "source", "target", "model", "layer", "kind")
_NUMBERS = ("steps", "t_edit", "t_boost")
_FIELDS = (*_TEXTS, *_NUMBERS, "factor", "shape", "timesteps")


def _assemble(header: Any, tensors: dict[str, Tensor]) -> DeltaH:
    """Build a delta-h from the content of a file. Raises KeyError, TypeError or ValueError if it is invalid."""
    found = {name: header[name] for name in _FIELDS}
    shape, timesteps = _numbers(found.pop("shape")), _numbers(found.pop("timesteps"))
    texts = all(isinstance(found[name], str) and found[name].isprintable() for name in _TEXTS)
    if not texts or len(shape) != 3 or min(shape) < 1 or not timesteps or found["kind"] not in KINDS:
        raise ValueError("inconsistent fields")
    if (
        list(timesteps) != sorted(set(timesteps), reverse=True)
        or not 0 <= _numbers([found["t_edit"]])[0] <= timesteps[-1]
    ):
        raise ValueError("timesteps that are not those of an edit")
    factor = found.pop("factor")
    if not isinstance(factor, float) or not 0 < factor <= MOST_FACTOR:
        raise ValueError("factor out of range")
    if len(timesteps) > _numbers([found["steps"]])[0] or _numbers([found["t_boost"]])[0] < 0:
        raise ValueError("steps out of range")
    with torch.device("meta"):  # the shapes are compared before any memory is allocated for them
        network = build(found.pop("kind"), timesteps, (shape[0], shape[1], shape[2]), factor)
    own = network.state_dict()
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in tensors.items()}:
        raise ValueError("tensors of other shapes")
    if not all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in tensors.values()):
        raise ValueError("not finite, or not float32")
    # The tensors of a file are not aligned in memory, which changes the rounding of convolutions.
    network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
    return DeltaH(
        network.requires_grad_(False).eval(), shape=(shape[0], shape[1], shape[2]), timesteps=timesteps, **found
    )


def _numbers(saved: Any) -> tuple[int, ...]:
    """Integers from JSON. Raises ValueError for anything else."""
    if not isinstance(saved, list) or not all(type(each) is int for each in saved):
        raise ValueError("not a list of integers")
    return tuple(saved)
