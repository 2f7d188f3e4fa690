"""What the source makes inside the network at every step of a run, looked at through taps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from sfumato.core.batching import rows_per_call
from sfumato.core.state import Denoiser
from sfumato.errors import BadInput
from sfumato.models.modules import Names
from sfumato.models.taps import AnyTap, Tap, of_maps

ONE_IN = 16
"""One in so many of the rows that go together may be the source's: what is seen of them is kept."""

Look: TypeAlias = tuple[AnyTap, int]
"""A tap, and how many steps look in the same way, this one included."""


@dataclass(frozen=True, eq=False)
class Source:
    """The source's evaluations, several steps of the run in one call.

    The source's latents are those of its inversion, so it never drifts from the picture, needs no guidance of its
    own and no evaluation where nothing is looked at (Ju et al., arXiv 2310.01506, hold the source branch of an edit
    on them; Tumanyan et al., arXiv 2211.12572, read their features from them). As they are known, no evaluation waits
    for another: small latents, whose rows are much cheaper in one call than one by one, go together, up to four rows
    whatever `batch` the user chose; those of Stable Diffusion at 512 pixels, whose maps take memory, do not. No more
    is evaluated than is looked at, as every look says how many steps it still goes on.

    Attributes:
        network: what is evaluated, without guidance.
        latents: x_t [b,c,h,w] by timestep, in the order of the run.
        condition: one row per image.
        exact: one step at a time, as the target is evaluated: a call of another size is rounded differently.
    """

    network: Denoiser
    latents: Mapping[int, Tensor]
    condition: Any
    exact: bool = False
    _seen: dict[int, list["_Seen"]] = field(default_factory=dict, init=False, repr=False)

    def show(self, t: int, looks: Sequence[Look]) -> None:
        """Let taps see the evaluation at t; they look, and cannot change it.

        Raises:
            BadInput: as `tapped`, or a tap returns something to put in the place of what it saw.
        """
        missing = [(tap, left) for tap, left in looks if self._find(t, tap) is None]
        if missing:
            self._evaluate(t, missing)
        for tap, _ in looks:
            seen = self._find(t, tap)
            assert seen is not None
            for name, *call in seen.at(t):
                if cast(Any, tap)(name, *call) is not None:
                    raise BadInput(f"A tap replaces what the source makes in {name}: of the source it can only look.")
        self._seen.pop(t, None)

    def _find(self, t: int, tap: AnyTap) -> "_Seen | None":
        return next((each for each in self._seen.get(t, ()) if each.like(tap)), None)

    def _evaluate(self, t: int, looks: Sequence[Look]) -> None:
        """The source at t and at the steps below it that all looks want, too."""
        x, levels = self.latents[t], list(self.latents)
        most = 1 if self.exact else max(1, rows_per_call(*x.shape[1:]) // ONE_IN // len(x))
        steps = levels[levels.index(t) :][: min(most, *(left for _, left in looks))]
        seen = [_Seen(tap, steps) for tap, _ in looks]
        rows, times = torch.cat([self.latents[step] for step in steps]), x.new_tensor(steps, dtype=torch.long)
        level = t if len(steps) == 1 else times.repeat_interleave(len(x))
        self.network.predict(rows, level, self.condition.repeat(len(steps)), seen)
        for step in steps:
            self._seen.setdefault(step, []).extend(seen)


class _Seen:
    """Keeps what a tap is to see of several steps.

    Attributes:
        layers: for a tap of attention maps, those that it looks at; else None.
        module: for a tap of modules, their names.
    """

    def __init__(self, tap: AnyTap, steps: Sequence[int]) -> None:
        self.layers = tap.layers if of_maps(tap) else None
        self.module: Names = () if of_maps(tap) else cast(Tap, tap).module
        self._steps = list(steps)
        self._calls: list[tuple[Any, ...]] = []

    def __call__(self, *call: Any) -> None:
        """Keep (name, output) or (name, cross, maps)."""
        self._calls.append(call)

    def like(self, tap: AnyTap) -> bool:
        """Whether that tap looks at the same."""
        return self.layers == tap.layers if of_maps(tap) else self.module == cast(Tap, tap).module

    def at(self, t: int) -> Iterator[tuple[Any, ...]]:
        """The calls with the rows of this timestep."""
        for *names, values in self._calls:
            yield *names, values.chunk(len(self._steps))[self._steps.index(t)]
