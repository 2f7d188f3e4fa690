"""What the source computes, carried into the target: cross-attention maps, queries and keys, residual features.

Prompt-to-Prompt (Hertz et al., arXiv 2208.01626) carries cross- and self-attention maps, Plug-and-Play (Tumanyan et
al., arXiv 2211.12572) features and self-attention. Maps of self-attention follow from the queries and keys, so these
are carried and the maps are never in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from sfumato.core.rows import TARGET, Rows
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.models.attention import Layers, RecordMaps, ReplaceMaps, replaced_rows
from sfumato.models.taps import FromSource, Record
from sfumato.shifts.alignment import Alignment

Put: TypeAlias = Callable[[Tensor, Tensor, Rows], Tensor | None]
"""From the source's output [b,...] and the target's [rows,...] to the target's new one; None leaves it."""


@dataclass(frozen=True, eq=False)
class Carry(Shift):
    """Something carried from the source in the first part of a run.

    Attributes:
        modules: names of the modules whose outputs, or whose maps, are replaced.
        share: 0 to 1, of the steps that are really run, from the noisy end: 0 carries nothing.
    """

    modules: tuple[str, ...]
    share: float

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """The modules, within the share."""
        return self.modules if i < round(self.share * steps) else ()

    def left(self, state: StepState) -> int:
        """How many steps of the share are left, this one included; 0 behind it."""
        return max(0, round(self.share * state.steps) - state.i)


@dataclass(frozen=True, eq=False)
class CarryMaps(Carry):
    """The cross-attention maps under the target prompt are mixed from the source's: A' = A_source mix + A own.

    Attributes:
        alignment: which tokens take whose maps.
    """

    alignment: Alignment

    def taps(self, state: StepState) -> FromSource | None:
        """Maps read in the source, replaced in the target."""
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
class CarryFeatures(Carry):
    """The outputs of modules in the target are replaced by the source's.

    Attributes:
        put: how; `into_target` or `into_all`.
    """

    put: Put

    def taps(self, state: StepState) -> FromSource | None:
        """Outputs read in the source, replaced in the target."""
        left = self.left(state)
        if not left:
            return None
        source = Record(self.modules)
        return FromSource(source, _Put(self.modules, source.outputs, self.put), left)


def into_target(source: Tensor, target: Tensor, rows: Rows) -> Tensor | None:
    """The rows under the target prompt become the source's; the others stay (Prompt-to-Prompt)."""
    return replaced_rows(target, rows, TARGET, lambda own: source)


def into_all(source: Tensor, target: Tensor, rows: Rows) -> Tensor:
    """The rows under every condition become the source's (Plug-and-Play)."""
    return source.repeat(len(rows.names), *(1 for _ in source.shape[1:]))


def queries_and_keys(layers: Sequence[str]) -> tuple[str, ...]:
    """The modules whose outputs determine the maps of attention layers."""
    return tuple(f"{layer}.{part}" for layer in layers for part in ("to_q", "to_k"))


@dataclass(frozen=True)
class _Put:
    """Puts the source's outputs into the target, and lets go of them."""

    module: tuple[str, ...]
    kept: dict[str, Tensor]
    put: Put

    def __call__(self, name: str, output: Tensor, rows: Rows) -> Tensor | None:
        return self.put(self.kept.pop(name), output, rows)
