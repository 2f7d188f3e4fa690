"""Named global directions of one model at one timestep, in one safetensors file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.formats import Format
from sfumato.geometry.jacobian import Pool
from sfumato.models.diffusion_model import DiffusionModel

Kind: TypeAlias = Literal["pullback", "pca"]
KINDS: tuple[Kind, ...] = ("pullback", "pca")
WEIGHTS = (1e-3, 1e3)
"""Smallest and largest weight in a mixture, of which only the ratios count."""


@dataclass(frozen=True, eq=False)
class Directions:
    """Unit vectors of H, and where they belong.

    Attributes:
        u: [k,d].
        names: of every direction, all different.
        kind: "pullback" (means of matched local directions) or "pca" (principal components of h).
        model: fingerprint of the network.
        t: timestep.
        steps: of the run that the timestep belongs to.
        step: index of the timestep in that run, from 0.
        latent: shape (c, h, w) of the latents.
        pool: what became of the positions of the bottleneck.
        values: mean singular value (pullback) or standard deviation of h (pca) of every direction.
        overlap: mean |cos| between a direction and what it is the mean of; 1 for principal components.
        samples: how many latents they were found from.
        prompts: that the latents were drawn under.
    """

    FORMAT: ClassVar[Format] = Format("sfumato.directions.1", "a set of directions", "find them again")

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
        """Share of the run that is left at the timestep."""
        return 1 - self.step / self.steps

    def index(self, name: str) -> int:
        """Where a direction is, by its name or by its number from 1.

        Raises:
            BadInput: there is none; names those that there are.
        """
        if name in self.names:
            return self.names.index(name)
        if _is_number(name) and 1 <= int(name) <= len(self):
            return int(name) - 1
        raise BadInput(f'There is no direction "{name}"; there are {", ".join(self.names)} (1 to {len(self)}).')

    def mix(self, weights: Mapping[str, float]) -> Float[Tensor, " d"]:
        """The unit vector along sum_k w_k u_k.

        Raises:
            BadInput: an unknown name, or weights whose sum vanishes.
        """
        total = torch.zeros_like(self.u[0])
        for name, weight in weights.items():
            total = total + weight * self.u[self.index(name)]
        norm = torch.linalg.vector_norm(total)
        if not bool(norm > 1e-6):
            raise BadInput("The directions cancel each other: change a weight.")
        return total / norm

    def renamed(self, names: Mapping[str, str]) -> "Directions":
        """Other names for some, by their present name or number.

        Raises:
            BadInput: no such direction, or a name that is taken, empty, a number, or contains "," or "=".
        """
        changed = list(self.names)
        for old, new in names.items():
            changed[self.index(old)] = new
        return replace(self, names=check_names(changed))

    def check_fits(self, network: DiffusionModel, t: int, latent: Sequence[int]) -> None:
        """Refuse another model, timestep or shape of latents than those that the directions were found with.

        Raises:
            BadInput: names the difference.
        """
        problem = ""
        if self.model != network.fingerprint():
            problem = f"with another model or precision (weights {self.model[:12]}, not {network.fingerprint()[:12]})"
        elif self.t != t:
            problem = f"at timestep {self.t} of a run of {self.steps} steps, and here they would be used at {t}"
        elif tuple(self.latent) != tuple(latent):
            problem = f"on latents of shape {list(self.latent)}, not {list(latent)}"
        if problem:
            raise BadInput(f"These directions were found {problem}: use them as they were found, or find new ones.")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, which is there whole or not at all. Raises BadInput where it cannot be."""
        self.FORMAT.write(path, {name: getattr(self, name) for name in _FIELDS}, {"u": self.u})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Directions":
        """Read what `save` wrote.

        Raises:
            BadInput: no such file, not directions, or damaged.
        """
        return Directions.FORMAT.read(path, _assemble)


_FIELDS = (
    *("names", "kind", "model", "t", "steps", "step", "latent"),
    *("pool", "values", "overlap", "samples", "prompts"),
)


def _is_number(name: str) -> bool:
    """Whether a name may be the number of a direction; longer ones Python does not convert."""
    return name.isdecimal() and len(name) < 10


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names that can be told apart from each other, from numbers of others and from weights.

    Raises:
        BadInput: with the first problem.
    """
    for place, name in enumerate(names, start=1):
        if not name.strip() or name != name.strip() or set(name) & set(",=") or not name.isprintable():
            raise BadInput(f'A direction needs a name of printable characters without "," and "=", not {name!r}.')
        if _is_number(name) and int(name) != place:
            raise BadInput(f'The direction {place} cannot be called "{name}", which is the number of another.')
    if len(set(names)) != len(names):
        raise BadInput("Two directions have the same name: rename one.")
    return tuple(names)


def parse_weights(text: str) -> dict[str, float]:
    """ "smile" -> {"smile": 1}, "smile=1,3=-0.5" -> {"smile": 1, "3": -0.5}.

    Raises:
        BadInput: not of that form, a name twice, or a weight out of range.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.rpartition("=") if "=" in part else (part, "", "1")
        name = name.strip()
        try:
            weight = float(number)
        except ValueError:
            name = ""
        if not name or name in weights:
            raise BadInput(
                f'direction must be a name or a number, or several with weights like "1=1,3=-0.5", not "{text}".'
            )
        if not WEIGHTS[0] <= abs(weight) <= WEIGHTS[1]:
            low, high = WEIGHTS
            raise BadInput(f'The weight of direction "{name}" must be between {low:g} and {high:g} or minus that.')
        weights[name] = weight
    return weights


def _assemble(header: Any, tensors: dict[str, Tensor]) -> Directions:
    """Lists of JSON become tuples again. Raises KeyError, TypeError or ValueError where the parts do not fit."""
    u = tensors["u"]
    values: dict[str, Any] = {
        name: tuple(header[name]) if isinstance(header[name], list) else header[name] for name in _FIELDS
    }
    found = Directions(u=u, **values)
    k = len(found.names)
    shapes = u.ndim == 2 and u.is_floating_point() and len(u) == k == len(found.values) == len(found.overlap)
    kinds = found.kind in KINDS and found.pool in ("sum", None) and len(found.latent) == 3
    run = all(isinstance(each, int) for each in (found.t, found.steps, found.step)) and 0 <= found.step < found.steps
    lists = isinstance(found.names, tuple) and isinstance(found.prompts, tuple)
    texts = lists and all(isinstance(each, str) for each in (*found.names, *found.prompts, found.model))
    numbers = all(
        isinstance(each, int | float) for each in (*found.values, *found.overlap, *found.latent, found.samples)
    )
    if not (shapes and kinds and run and texts and numbers and bool(torch.isfinite(u).all())):
        raise ValueError("parts that do not belong together")
    check_names(found.names)
    return found
