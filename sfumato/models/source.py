"""Evaluations of the source at every step of a run, read through taps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from sfumato.core.batching import rows_per_call
from sfumato.core.condition import Condition
from sfumato.core.rows import SOURCE, Rows
from sfumato.core.state import Denoiser
from sfumato.errors import BadInput
from sfumato.models.modules import Names
from sfumato.models.taps import AnyTap, Tap, of_maps

ONE_IN = 16
"""One in so many of the rows that go together may be the source's: what is read of them is kept."""

Reading: TypeAlias = tuple[AnyTap, int]
"""A tap, and how many steps read the same, this one included."""


@dataclass(frozen=True, eq=False)
class Source:
    """The source's evaluations, several steps of the run in one call.

    The source's latents are those of its inversion, so it never drifts from the picture, needs no guidance of its
    own and no evaluation where nothing is read (Ju et al., arXiv 2310.01506, hold the source branch of an edit on
    them; Tumanyan et al., arXiv 2211.12572, read their features from them). As they are known, no evaluation waits
    for another: small latents, whose rows are much cheaper in one call than one by one, go together, up to four rows
    whatever `batch` the user chose; those of Stable Diffusion at 512 pixels, whose maps take memory, do not. No more
    is evaluated than is read, as every reading says for how many steps it goes on.

    Attributes:
        network: what is evaluated, without guidance.
        latents: x_t [b,c,h,w] by timestep, in the order of the run.
        condition: one row per image.
        exact: one step at a time, as the target is evaluated: a call of another size is rounded differently.
    """

    network: Denoiser
    latents: Mapping[int, Tensor]
    condition: Condition
    exact: bool = False
    _kept: dict[int, list["_Kept"]] = field(default_factory=dict, init=False, repr=False)

    def read(self, t: int, readings: Sequence[Reading]) -> None:
        """Let taps read the evaluation at t; they cannot change it.

        Raises:
            BadInput: as `tapped`, or a tap returns something to put in the place of what it read.
        """
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
        # The pass for gradients comes first in a step; what it reads is read again by the prediction.
        levels = list(self.latents)
        for level in levels[: levels.index(t) + (not torch.is_grad_enabled())]:
            self._kept.pop(level, None)

    def _find(self, t: int, tap: AnyTap) -> "_Kept | None":
        return next((each for each in self._kept.get(t, ()) if each.like(tap)), None)

    @torch.no_grad()
    def _evaluate(self, t: int, readings: Sequence[Reading]) -> None:
        """The source at t and at the steps below it that all readings want, too."""
        x, levels = self.latents[t], list(self.latents)
        most = 1 if self.exact else max(1, rows_per_call(*x.shape[1:]) // ONE_IN // len(x))
        steps = levels[levels.index(t) :][: min(most, *(left for _, left in readings))]
        kept = [_Kept(tap, steps) for tap, _ in readings]
        rows, times = torch.cat([self.latents[step] for step in steps]), x.new_tensor(steps, dtype=torch.long)
        level = t if len(steps) == 1 else times.repeat_interleave(len(x))
        self.network.predict(rows, level, self.condition.repeat(len(steps)), kept)
        for step in steps:
            self._kept.setdefault(step, []).extend(kept)


class _Kept:
    """What a tap is to read of several steps.

    Attributes:
        layers: for a tap of attention maps, those that it reads; else None.
        module: for a tap of modules, their names.
    """

    def __init__(self, tap: AnyTap, steps: Sequence[int]) -> None:
        self.layers = tap.layers if of_maps(tap) else None
        self.module: Names = () if of_maps(tap) else cast(Tap, tap).module
        self._steps = list(steps)
        self._calls: list[tuple[Any, ...]] = []

    def __call__(self, *call: Any) -> None:
        """Keep (name, output, rows) or (name, cross, maps, rows)."""
        self._calls.append(call[:-1])

    def like(self, tap: AnyTap) -> bool:
        """Whether that tap reads the same."""
        return self.layers == tap.layers if of_maps(tap) else self.module == cast(Tap, tap).module

    def at(self, t: int) -> Iterator[tuple[Any, ...]]:
        """The calls with the rows of this timestep."""
        for *names, values in self._calls:
            yield *names, values.chunk(len(self._steps))[self._steps.index(t)]
