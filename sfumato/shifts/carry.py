"""What the source computes, carried into the target: cross-attention maps, queries and keys, residual features.

Prompt-to-Prompt (Hertz et al., arXiv 2208.01626) carries cross- and self-attention maps, Plug-and-Play (Tumanyan et
al., arXiv 2211.12572) features and self-attention. Maps of self-attention follow from the queries and keys, so these
are carried and the maps are never in memory.

The shifts here are for `replay_beside`, which refuses two that replace the same thing in the same step. In the rows of
the target's evaluation the conditional half comes last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.models.attention import Layers, RecordMaps, ReplaceMaps
from sfumato.models.taps import FromSource, Record
from sfumato.shifts.alignment import Alignment

Put: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From the source's output [b,...] and the target's [rows,...], rows a multiple of b, to the target's new one."""


@dataclass(frozen=True, eq=False)
class Carry(Shift):
    """Something carried from the source in the first part of a run.

    Attributes:
        modules: names of the modules whose outputs, or whose maps, are replaced.
        share: 0 to 1, of the steps that are really run, from the noisy end: 0 carries nothing.
    """

    modules: tuple[str, ...]
    share: float

    def left(self, state: StepState) -> int:
        """How many steps of the share are left, this one included; 0 behind it."""
        return max(0, round(self.share * state.steps) - state.i)


@dataclass(frozen=True, eq=False)
class CarryMaps(Carry):
    """The cross-attention maps of the conditional half are mixed from the source's: A' = A_source mix + A own.

    Attributes:
        alignment: which tokens take whose maps.
    """

    alignment: Alignment

    def taps(self, state: StepState) -> FromSource | None:
        """Maps looked at in the source, moved in the target."""
        left = self.left(state)
        if not left:
            return None
        source = RecordMaps(Layers(self.modules))
        target = ReplaceMaps(source.layers, lambda name, maps: self._moved(source.maps.pop(name), maps))
        return FromSource(source, target, left, self.modules)

    def _moved(
        self, source: Float[Tensor, "b heads queries n"], maps: Float[Tensor, "rows heads queries n"]
    ) -> Float[Tensor, "rows heads queries n"]:
        rest, target = maps[: -len(source)], maps[-len(source) :]
        mix, own = self.alignment.mix.to(maps)[:, None], self.alignment.own.to(maps)[:, None, None]
        return torch.cat([rest, source @ mix + target * own])


@dataclass(frozen=True, eq=False)
class CarryFeatures(Carry):
    """The outputs of modules in the target are replaced by the source's.

    Attributes:
        put: how; `into_conditional` or `into_all`.
    """

    put: Put

    def taps(self, state: StepState) -> FromSource | None:
        """Outputs looked at in the source, replaced in the target."""
        left = self.left(state)
        if not left:
            return None
        source = Record(self.modules)
        return FromSource(source, _Put(self.modules, source.outputs, self.put), left, self.modules)


def into_conditional(source: Tensor, target: Tensor) -> Tensor:
    """The conditional half becomes the source's; guidance's other half stays (Prompt-to-Prompt)."""
    return torch.cat([target[: -len(source)], source])


def into_all(source: Tensor, target: Tensor) -> Tensor:
    """Both halves of a guidance pair become the source's (Plug-and-Play)."""
    return source.repeat(len(target) // len(source), *(1 for _ in source.shape[1:]))


def queries_and_keys(layers: Sequence[str]) -> tuple[str, ...]:
    """The modules whose outputs determine the maps of attention layers."""
    return tuple(f"{layer}.{part}" for layer in layers for part in ("to_q", "to_k"))


@dataclass(frozen=True)
class _Put:
    """Puts the source's outputs into the target, and lets go of them."""

    module: tuple[str, ...]
    kept: dict[str, Tensor]
    put: Put

    def __call__(self, name: str, output: Tensor) -> Tensor:
        return self.put(self.kept.pop(name), output)
