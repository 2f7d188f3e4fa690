"""Evaluation of the source branch at the steps of a run, whose features and attention maps taps read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.rows import SOURCE, Rows
from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.modules import Names
from sfumato.models.taps import AnyTap, Tap, of_maps

ELEMENTS = 2**14
"""Largest number of latent elements in one forward pass of the source; it limits the memory of the stored outputs."""

Reading: TypeAlias = tuple[AnyTap, int]
"""A tap, and the number of steps, the current one included, in which it reads the same modules."""


@dataclass(frozen=True, eq=False)
class Source:
    """Evaluates the source for several steps of the run in one forward pass, and stores the outputs that taps read.

    In every step the network is evaluated at the latent x_t that the inversion recorded, eps(x_t^source, t, c_source),
    rather than at the latent of a separate source trajectory. The source therefore does not deviate from the image, and
    needs neither guidance nor an evaluation in steps in which no tap reads (Ju et al., arXiv 2310.01506, also keep the
    source branch of an edit on these latents; Tumanyan et al., arXiv 2211.12572, read features from them).

    All x_t are known in advance, so several steps can be evaluated in one batch. One forward pass contains

        n = max(1, floor(ELEMENTS / (b c h w)))     steps for b images,

    but no more steps than every reading still needs; the user's `batch` has no effect on it. For latents [4,16,16] this
    is up to 16 rows, and for Stable Diffusion at 512 pixels, whose maps need much memory, one step.

    Attributes:
        network: the network without guidance.
        latents: x_t [b,c,h,w] by timestep, in the order of the run.
        condition: condition of the source, one row per image.
        exact: evaluate one step at a time, as for the target: other batch sizes round differently.
    """

    network: DiffusionModel
    latents: Mapping[int, Tensor]
    condition: Condition
    exact: bool = False
    _kept: dict[int, list["_Kept"]] = field(default_factory=dict, init=False, repr=False)

    def read(self, t: int, readings: Sequence[Reading], *, again: bool = False) -> None:
        """Call taps with the outputs or maps of the source at timestep t.

        Args:
            t: timestep of the current step.
            readings: the taps, each with the number of steps in which it reads the same modules.
            again: keep the stored outputs, because taps may read them in another evaluation of this step.

        Raises:
            BadInput: as in `tapped`, or a tap returns a replacement.
        """
        levels = list(self.latents)
        self._free(levels[: levels.index(t)])
        missing = [(tap, left) for tap, left in readings if self._find(t, tap) is None]
        if missing:
            self._evaluate(t, missing)
        rows = Rows((SOURCE,), len(self.latents[t]))
        for tap, _ in readings:
            kept = self._find(t, tap)
            assert kept is not None
            for name, *call in kept.at(t):
                if cast(Any, tap)(name, *call, rows) is not None:
                    raise BadInput(f"A tap replaces the source's {name}: taps of the source can only read.")
        # In a step, the pass with gradients comes first; the prediction then reads the same outputs again.
        if not (again or torch.is_grad_enabled()):
            self._free([t])

    def _free(self, levels: Sequence[int]) -> None:
        """Free the stored outputs of finished steps."""
        for level in levels:
            self._kept.pop(level, None)

    def _find(self, t: int, tap: AnyTap) -> "_Kept | None":
        return next((each for each in self._kept.get(t, ()) if each.like(tap)), None)

    @torch.no_grad()
    def _evaluate(self, t: int, readings: Sequence[Reading]) -> None:
        """Evaluate the source at t and at the following steps that all readings need, and store the outputs."""
        x, levels = self.latents[t], list(self.latents)
        most = 1 if self.exact else max(1, ELEMENTS // x.numel())
        steps = levels[levels.index(t) :][: min(most, *(left for _, left in readings))]
        kept = [_Kept(tap, steps) for tap, _ in readings]
        rows, times = torch.cat([self.latents[step] for step in steps]), x.new_tensor(steps, dtype=torch.long)
        level = t if len(steps) == 1 else times.repeat_interleave(len(x))
        self.network.read(rows, level, self.condition.repeat(len(steps)), cast(Sequence[AnyTap], kept))
        for step in steps:
            self._kept.setdefault(step, []).extend(kept)


class _Kept:
    """A tap that stores the outputs of several steps for another tap.

    Attributes:
        layers: the attention layers of a tap of attention maps; None for a tap of modules.
        module: the names of a tap of modules; () for a tap of attention maps.
    """

    def __init__(self, tap: AnyTap, steps: Sequence[int]) -> None:
        self.layers = tap.layers if of_maps(tap) else None
        self.module: Names = () if of_maps(tap) else cast(Tap, tap).module
        self._steps = list(steps)
        self._calls: list[tuple[Any, ...]] = []

    def __call__(self, *call: Any) -> None:
        """Store (name, output) or (name, cross, maps) of a call."""
        self._calls.append(call[:-1])

    def like(self, tap: AnyTap) -> bool:
        """Whether the other tap reads the same modules or layers."""
        return self.layers == tap.layers if of_maps(tap) else self.module == cast(Tap, tap).module

    def at(self, t: int) -> Iterator[tuple[Any, ...]]:
        """The stored calls, with the rows of this timestep."""
        for *names, values in self._calls:
            yield *names, values.chunk(len(self._steps))[self._steps.index(t)]
