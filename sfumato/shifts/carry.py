"""Replace cross-attention maps, queries and keys, or residual features of the target by those of the source.

Prompt-to-Prompt (Hertz et al., arXiv 2208.01626) replaces cross- and self-attention maps, Plug-and-Play (Tumanyan et
al., arXiv 2211.12572) features and self-attention maps. Self-attention maps are determined by queries and keys, which
are replaced instead, so that the maps need not be materialised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from sfumato.core.rows import TARGET, Rows
from sfumato.core.shift import PLACES, Shift
from sfumato.core.state import StepState
from sfumato.models.attention import Layers, RecordMaps, ReplaceMaps, replaced_rows
from sfumato.models.taps import FromSource, Record
from sfumato.shifts.alignment import Alignment

Put: TypeAlias = Callable[[Tensor, Tensor, Rows], Tensor | None]
"""Maps (source output [b,...], target output [rows,...], layout) to the new target output; None for no change."""


@dataclass(frozen=True, eq=False)
class Carry(Shift):
    """Base class: replace outputs or maps of the target by the source's in the first steps of a run.

    Attributes:
        modules: names of the modules whose outputs or attention maps are replaced.
        fraction: fraction of the executed steps, counted from the first (noisiest) one, 0 to 1; 0 replaces nothing.
    """

    modules: tuple[str, ...]
    fraction: float

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """The names of the modules, in the first `fraction` of the steps."""
        return self.modules if i < round(self.fraction * steps) else ()

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """The positions of the source, in the first `fraction` of the steps."""
        return (PLACES,) if i < round(self.fraction * steps) else ()

    def left(self, state: StepState) -> int:
        """Number of remaining steps with replacement, including the current one; 0 after the first `fraction`."""
        return max(0, round(self.fraction * state.steps) - state.i)


@dataclass(frozen=True, eq=False)
class InjectMaps(Carry):
    """Mix the source's cross-attention maps into those under the target prompt: A' = A_source mix + A own.

    Attributes:
        alignment: the weights mix and own, from the alignment of the tokens of both prompts.
    """

    alignment: Alignment

    def taps(self, state: StepState) -> FromSource | None:
        """Return taps that read the maps of the source and replace those of the target; None after the first steps."""
        left = self.left(state)
        if not left:
            return None
        source = RecordMaps(Layers(self.modules))
        target = ReplaceMaps(source.layers, lambda name, maps: self._mixed(source.maps.pop(name), maps), TARGET)
        return FromSource(source, target, left)

    def _mixed(
        self, source: Float[Tensor, "b heads queries n"], maps: Float[Tensor, "b heads queries n"]
    ) -> Float[Tensor, "b heads queries n"]:
        mix, own = self.alignment.mix.to(maps)[:, None], self.alignment.own.to(maps)[:, None, None]
        return source @ mix + maps * own


@dataclass(frozen=True, eq=False)
class InjectFeatures(Carry):
    """Replace outputs of modules in the evaluation of the target by those of the source.

    Attributes:
        put: function that selects the rows to replace: `into_target` or `into_all`.
    """

    put: Put

    def taps(self, state: StepState) -> FromSource | None:
        """Return taps that read outputs of the source and replace those of the target; None after the first steps."""
        left = self.left(state)
        if not left:
            return None
        source = Record(self.modules)
        return FromSource(source, _Put(self.modules, source.outputs, self.put), left)


def into_target(source: Tensor, target: Tensor, rows: Rows) -> Tensor | None:
    """Replace the rows of the target prompt by those of the source; keep the other rows (Prompt-to-Prompt)."""
    return replaced_rows(target, rows, TARGET, lambda own: source)


def into_all(source: Tensor, target: Tensor, rows: Rows) -> Tensor:
    """Replace the rows of every condition by those of the source (Plug-and-Play)."""
    return source.repeat(len(rows.names), *(1 for _ in source.shape[1:]))


def queries_and_keys(layers: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the `to_q` and `to_k` modules of attention layers, whose outputs determine the maps."""
    return tuple(f"{layer}.{part}" for layer in layers for part in ("to_q", "to_k"))


@dataclass(frozen=True)
class _Put:
    """A tap that replaces outputs of the target by the recorded outputs of the source, which it then frees."""

    module: tuple[str, ...]
    kept: dict[str, Tensor]
    put: Put

    def __call__(self, name: str, output: Tensor, rows: Rows) -> Tensor | None:
        return self.put(self.kept.pop(name), output, rows)
