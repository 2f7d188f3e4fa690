"""Reading and moving attention maps: A = softmax(Q K^T / sqrt(d)), and A V is what a layer passes on.

Fused attention never has the maps in memory. Here a layer that is tapped keeps its own processor and computes what it
always computes; its queries, keys and values are looked at on the way, the maps are computed from them, and where a
tap moves the maps to A' the layer's output is moved by what that makes:

    output' = output + W_out (A' - A) V / rescale

So a tap that only looks, and one that puts A in the place of A, leave the output as it was to the last bit; residual
connection, normalisation and rescaling stay the layer's business; and only tapped layers pay for their maps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0, XFormersAttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from sfumato.core.rows import TARGET, Rows
from sfumato.errors import BadInput
from sfumato.hooks import attach_hook
from sfumato.models.modules import Names, named

Waiting: TypeAlias = dict[Any, str]
"""What an evaluation has not done yet, and the sentence for the user if it never does."""


@dataclass(frozen=True)
class Layers:
    """Which attention layers of a network.

    Attributes:
        module: names or patterns, see `sfumato.models.modules`; "**" are all, "up_blocks.**" those of the decoder.
        cross: True for cross-attention alone, False for self-attention alone, None for both.
        most_queries: leave layers alone that have more queries (16 x 16 tokens: 256) at the size in hand.
    """

    module: Names = "**"
    cross: bool | None = None
    most_queries: int | None = None

    def of(self, network: nn.Module) -> list[tuple[str, Attention]]:
        """The layers by name, whatever their number of queries.

        Raises:
            BadInput: there is none, or one works in a way whose maps cannot be told from outside.
        """
        layers = [(name, cast(Attention, layer)) for name, layer in named(network, self.module, Attention)]
        found = [(name, layer) for name, layer in layers if self.cross in (None, layer.is_cross_attention)]
        if not found:
            raise BadInput(
                f'There is no {"cross" if self.cross else "self"}-attention among the layers "{self.module}".'
            )
        for name, layer in found:
            _check(name, layer)
        return found

    def reach(self, queries: int) -> bool:
        """Whether a layer with so many queries is meant."""
        return self.most_queries is None or queries <= self.most_queries


class AttentionTap(Protocol):
    """Looks at, and perhaps moves, the maps of the attention layers that it names."""

    @property
    def layers(self) -> Layers:
        """Which layers."""

    def __call__(self, name: str, cross: bool, maps: Tensor, rows: Rows) -> Tensor | None:
        """Return what takes the place of the maps, or None to leave them.

        Args:
            name: the layer's full name.
            cross: whether it is cross-attention.
            maps: A, [rows, heads, queries, keys]; the queries are the grid's cells row by row, the keys are cells
                too or, in cross-attention, the tokens of the prompt. With gradient history if there is any.
            rows: which conditions and images the rows are.
        """


class RecordMaps:
    """Keeps the maps of the latest evaluation.

    Attributes:
        layers: which.
        of: name of the condition whose rows are kept; "" for all rows.
        maps: layer name to [rows, heads, queries, keys], with gradient history if there is any.
    """

    def __init__(self, layers: Layers, of: str = "") -> None:
        self.layers = layers
        self.of = of
        self.maps: dict[str, Tensor] = {}

    def __call__(self, name: str, cross: bool, maps: Tensor, rows: Rows) -> None:
        """Keep the maps."""
        self.maps[name] = maps[rows.of(self.of)] if self.of else maps


class ReplaceMaps:
    """Puts `change(name, maps)` in the place of the maps of one condition.

    Attributes:
        layers: which.
        change: from a layer's name and its maps to what replaces them, of the same shape.
        of: name of the condition whose rows are replaced; where it is not evaluated nothing is. "" for all rows.
    """

    def __init__(self, layers: Layers, change: Callable[[str, Tensor], Tensor], of: str = "") -> None:
        self.layers = layers
        self.change = change
        self.of = of

    def __call__(self, name: str, cross: bool, maps: Tensor, rows: Rows) -> Tensor | None:
        """The replacement."""
        if not self.of:
            return self.change(name, maps)
        return replaced_rows(maps, rows, self.of, lambda own: self.change(name, own))


def replaced_rows(values: Tensor, rows: Rows, of: str, change: Callable[[Tensor], Tensor]) -> Tensor | None:
    """Values with the rows of one condition changed, the others as they are; None where it is not evaluated."""
    if of not in rows:
        return None
    where = rows.of(of)
    return torch.cat([values[: where.start], change(values[where]), values[where.stop :]])


def attach(
    network: nn.Module, taps: Sequence[AttentionTap], rows: Rows | None, waiting: Waiting
) -> Iterator[RemovableHandle]:
    """Hook the taps into a network; every handle that is yielded must be removed.

    Taps of one layer work in the order of the list, each on the maps that the one before it left. In scopes within
    one another every scope sees the layer's own maps, and what they make of the output adds up.

    Raises:
        BadInput: a tap matches no layer.
    """
    layers: dict[str, Attention] = {}
    of: dict[str, list[AttentionTap]] = {}
    for tap in taps:
        for name, layer in tap.layers.of(network):
            layers[name] = layer
            of.setdefault(name, []).append(tap)
            waiting[name] = f"The network has the tapped layer {name}, but never runs it."
        if tap.layers.most_queries is not None:
            waiting[id(tap)] = (
                f'None of the attention layers "{tap.layers.module}" has as few as {tap.layers.most_queries} queries '
                "at this size: allow more of them."
            )
    for name, layer in layers.items():
        yield from _Tapped(name, layer, of[name], rows, waiting).hooks()


class _Tapped:
    """One layer, and the taps that look at its maps."""

    def __init__(
        self, name: str, layer: Attention, taps: Sequence[AttentionTap], rows: Rows | None, waiting: Waiting
    ) -> None:
        self.name = name
        self.layer = layer
        self.taps = taps
        self.rows = rows
        self.waiting = waiting
        self.parts: dict[str, Tensor] = {}

    def hooks(self) -> Iterator[RemovableHandle]:
        for part in ("to_q", "to_k", "to_v"):
            yield attach_hook(getattr(self.layer, part), partial(self._keep, part))
        yield attach_hook(self.layer, self._attended, with_kwargs=True)

    def _keep(self, part: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.parts[part] = output

    def _attended(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:
        self.waiting.pop(self.name, None)
        q, k, v = (self.parts.pop(part) for part in ("to_q", "to_k", "to_v"))
        taps = [tap for tap in self.taps if tap.layers.reach(q.shape[1])]
        if not taps:
            return None
        own = maps = self._maps(q, k, kwargs.get("attention_mask", args[2] if len(args) > 2 else None))
        for tap in taps:
            self.waiting.pop(id(tap), None)
            changed = tap(self.name, self.layer.is_cross_attention, maps, self.rows or Rows((TARGET,), len(maps)))
            maps = maps if changed is None else self._checked(changed, own)
        return None if maps is own else output + self._made(maps - own, v, output)

    def _maps(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """A, [rows, heads, queries, keys]."""
        rows = len(q)
        mask = self.layer.prepare_attention_mask(mask, k.shape[1], rows)
        q, k = (self.layer.head_to_batch_dim(each) for each in (q, k))
        return self.layer.get_attention_scores(q, k, mask).unflatten(0, (rows, self.layer.heads))

    def _made(self, moved: Tensor, v: Tensor, output: Tensor) -> Tensor:
        """What A' - A makes of the output."""
        heads = moved.to(v.dtype) @ self.layer.head_to_batch_dim(v, out_dim=4)
        made = F.linear(heads.transpose(1, 2).flatten(2), self.layer.to_out[0].weight)
        made = made if output.ndim == 3 else made.transpose(1, 2).reshape(output.shape)
        return made / self.layer.rescale_output_factor

    def _checked(self, maps: Tensor, own: Tensor) -> Tensor:
        if maps.shape != own.shape:
            raise BadInput(
                f"The maps that replace those of {self.name} must have the shape {tuple(own.shape)}, "
                f"not {tuple(maps.shape)}."
            )
        return maps


def _check(name: str, layer: Attention) -> None:
    """Refuse layers whose output is something else than W_out A V from one set of queries, keys and values."""
    plain = type(layer.processor) in (AttnProcessor, AttnProcessor2_0, XFormersAttnProcessor)
    if not plain or layer.norm_q is not None or layer.norm_k is not None or not isinstance(layer.to_out[0], nn.Linear):
        raise BadInput(
            f"The attention maps of {name} cannot be tapped, its processor is {type(layer.processor).__name__}: "
            "load the network with diffusers' default processors, without adapters or fused projections."
        )
