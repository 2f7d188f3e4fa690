"""Named global directions of one model at one timestep, stored in one safetensors file."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.formats import DIRECTIONS, Format
from sfumato.geometry.jacobian import BottleneckMap, Pool
from sfumato.mixtures import is_number
from sfumato.models.diffusion_model import DiffusionModel

Kind: TypeAlias = Literal["pullback", "pca"]
KINDS: tuple[Kind, ...] = ("pullback", "pca")


@dataclass(frozen=True, eq=False)
class Directions:
    """Global directions: unit vectors of H, with the model, timestep and latent shape that they belong to.

    Attributes:
        u: unit vectors, [k,d].
        names: one name per direction, all different.
        kind: "pullback" (means of matched local directions) or "pca" (principal components of h).
        model: fingerprint of the network.
        t: timestep.
        steps: number of steps of the run that contains the timestep.
        step: index of the timestep in that run, from 0.
        latent: shape (c, h, w) of the latents.
        pool: pooling over the positions of the bottleneck, "sum" or None.
        values: mean singular value (pullback) or standard deviation of h (pca) of every direction.
        overlap: mean |cos| between a direction and the local directions whose mean it is; 1 for principal components.
        samples: number of latents that the directions were computed from.
        prompts: prompts from which the latents were sampled.
    """

    FORMAT: ClassVar[Format] = DIRECTIONS

    u: Float[Tensor, "k d"]
    names: tuple[str, ...]
    kind: Kind
    model: str
    t: int
    steps: int
    step: int
    latent: tuple[int, int, int]
    pool: Pool
    values: tuple[float, ...]
    overlap: tuple[float, ...]
    samples: int
    prompts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.u)

    @property
    def time(self) -> float:
        """Fraction of the run that remains at the timestep; 1 at the first step."""
        return 1 - self.step / self.steps

    def index(self, name: str) -> int:
        """Return the index of a direction, given its name or its number from 1.

        Raises:
            BadInput: there is no such direction; the message lists the names.
        """
        if name in self.names:
            return self.names.index(name)
        if is_number(name) and 1 <= int(name) <= len(self):
            return int(name) - 1
        raise BadInput(
            f'There is no direction "{name}": use one of {", ".join(self.names)}, or a number from 1 to {len(self)}.'
        )

    def mix(self, weights: Mapping[str, float]) -> Float[Tensor, " d"]:
        """Compute the unit vector in the direction of the weighted sum sum_k w_k u_k.

        Args:
            weights: w_k by name or number of the direction.

        Raises:
            BadInput: a direction is unknown, or the weighted sum is zero.
        """
        total = torch.zeros_like(self.u[0])
        for name, weight in weights.items():
            total = total + weight * self.u[self.index(name)]
        norm = torch.linalg.vector_norm(total)
        if not bool(norm > 1e-6):
            raise BadInput("The directions cancel each other: change a weight.")
        return total / norm

    def renamed(self, names: Mapping[str, str]) -> "Directions":
        """Return a copy with some directions renamed.

        Args:
            names: new names by current name or number of the direction.

        Raises:
            BadInput: a direction is unknown or given twice (by its name and its number); or a new name is already used,
                empty, the number of another direction, or contains "," or "=".
        """
        changed, given = list(self.names), [self.index(old) for old in names]
        for index, new in zip(given, names.values(), strict=True):
            if given.count(index) > 1:
                raise BadInput(f'Direction "{self.names[index]}" is renamed twice: give it one new name.')
            changed[index] = new
        return replace(self, names=check_names(changed))

    def check_fits(self, network: DiffusionModel, t: int, latent: Sequence[int]) -> None:
        """Check that the directions were found with this model, timestep and latent shape.

        Raises:
            BadInput: one of them differs; the message says which.
        """
        problem = ""
        if self.model != network.fingerprint():
            problem = f"with another model or precision (weights {self.model[:12]}, not {network.fingerprint()[:12]})"
        elif self.t != t:
            problem = f"at timestep {self.t} of a run of {self.steps} steps, but would be used at timestep {t}"
        elif tuple(self.latent) != tuple(latent):
            problem = f"on latents of shape {list(self.latent)}, not {list(latent)} (--resolution sets the size)"
        elif self.u.shape[1] != (width := math.prod(BottleneckMap(network, t, None, self.pool).h_shape(*latent[1:]))):
            problem = f"in a bottleneck of {self.u.shape[1]} dimensions, not {width}"
        if problem:
            raise BadInput(f"These directions were found {problem}: use the same settings, or find new directions.")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file atomically. Raises BadInput if it cannot be written."""
        self.FORMAT.write(path, {name: getattr(self, name) for name in _FIELDS}, {"u": self.u})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Directions":
        """Read a file that `save` wrote.

        Raises:
            BadInput: the file does not exist, does not contain directions, or is damaged.
        """
        return Directions.FORMAT.read(path, _assemble)


_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_FIELDS = (
    *("names", "kind", "model", "t", "steps", "step", "latent"),
    *("pool", "values", "overlap", "samples", "prompts"),
)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Check that names are unique, are not numbers of other directions and contain no characters of weights.

    Raises:
        BadInput: a name is invalid; the message describes the first problem.
    """
    for place, name in enumerate(names, start=1):
        if not name.strip() or name != name.strip() or set(name) & set(",=") or not name.isprintable():
            raise BadInput(f'A direction needs a name of printable characters without "," and "=", not {name!r}.')
        if is_number(name) and int(name) != place:
            raise BadInput(f'Direction {place} cannot be named "{name}", which is the number of another direction.')
    if len(set(names)) != len(names):
        raise BadInput("Two directions have the same name: rename one.")
    return tuple(names)


def _assemble(header: Any, tensors: dict[str, Tensor]) -> Directions:
    """Build directions from a file; lists become tuples. Raises KeyError, TypeError or ValueError for invalid parts."""
    u = tensors["u"]
    values: dict[str, Any] = {
        name: tuple(header[name]) if isinstance(header[name], list) else header[name] for name in _FIELDS
    }
    found = Directions(u=u, **values)
    k = len(found.names)
    shapes = u.ndim == 2 and u.dtype in _DTYPES and len(u) == k == len(found.values) == len(found.overlap)
    kinds = found.kind in KINDS and found.pool in ("sum", None) and len(found.latent) == 3
    run = all(isinstance(each, int) for each in (found.t, found.steps, found.step)) and 0 <= found.step < found.steps
    lists = isinstance(found.names, tuple) and isinstance(found.prompts, tuple)
    texts = lists and all(isinstance(each, str) for each in (*found.names, *found.prompts, found.model))
    numbers = all(
        isinstance(each, int | float) for each in (*found.values, *found.overlap, *found.latent, found.samples)
    )
    if not (shapes and kinds and run and texts and numbers and bool(torch.isfinite(u).all())):
        raise ValueError("inconsistent fields")
    check_names(found.names)
    return found
