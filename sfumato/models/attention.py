"""Read and replace attention maps, A = softmax(Q K^T / sqrt(d)); the output of a layer is W_out A V.

Fused attention never materialises the maps. A tapped layer therefore keeps its own processor and computes its output as
usual. Hooks record its queries, keys and values, and the maps are computed from them. If a tap changes the maps to A',
the output of the layer changes by

    output' = output + W_out (A' - A) V / rescale

A tap that only reads, or that replaces A by A, leaves the output bit-identical. Residual connection, normalisation and
rescaling are left to the layer. Only tapped layers compute maps.
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
from sfumato.models.checkpointing import Checkpoints
from sfumato.models.modules import Names, named

Waiting: TypeAlias = dict[Any, str]
"""Layers, modules and taps that have not run yet in an evaluation, with the error message if they never run."""


@dataclass(frozen=True)
class Layers:
    """A selection of attention layers of a network.

    Attributes:
        module: names or patterns of modules, see `sfumato.models.modules`; "**" selects all attention layers,
            "up_blocks.**" those of the decoder.
        cross: True for cross-attention only, False for self-attention only, None for both.
        most_queries: skip layers with more queries than this for latents of the evaluated size; a layer with a 16 x 16
            feature map has 256 queries. None for no limit.
    """

    module: Names = "**"
    cross: bool | None = None
    most_queries: int | None = None

    def of(self, network: nn.Module) -> list[tuple[str, Attention]]:
        """The selected layers with their names, before `most_queries` is applied.

        Raises:
            BadInput: no layer matches, or the maps of a layer cannot be tapped because of its processor.
        """
        everywhere, kind = self.module == "**", {None: "", True: "cross-", False: "self-"}[self.cross]
        modules = network.named_modules() if everywhere else named(network, self.module, Attention)
        layers = [(name, layer) for name, layer in modules if isinstance(layer, Attention)]
        found = [(name, layer) for name, layer in layers if self.cross in (None, layer.is_cross_attention)]
        if not found and everywhere:
            raise BadInput(
                f"This model has no {kind}attention layers, whose maps are needed: use another model or method."
            )
        if not found:
            raise BadInput(f'There is no {kind}attention among the layers "{self.module}": name other layers.')
        for name, layer in found:
            _check(name, layer)
        return found

    def reach(self, queries: int) -> bool:
        """Whether a layer with this number of queries is selected."""
        return self.most_queries is None or queries <= self.most_queries


class AttentionTap(Protocol):
    """A callable that reads, and optionally replaces, the maps of attention layers."""

    @property
    def layers(self) -> Layers:
        """The layers to tap."""

    def __call__(self, name: str, cross: bool, maps: Tensor, rows: Rows) -> Tensor | None:
        """Return the new maps, or None to leave them.

        Args:
            name: full name of the layer.
            cross: whether the layer is cross-attention.
            maps: A, [rows, heads, queries, keys]; the queries are the cells of the feature map in row-major order, the
                keys too or, in cross-attention, the tokens of the prompt. With gradient history if gradients are
                enabled.
            rows: layout of the rows: their conditions and images.
        """


class RecordMaps:
    """A tap that records the maps of the latest evaluation.

    Attributes:
        layers: the layers to record.
        of: name of the condition whose rows are recorded; "" for all rows.
        maps: the maps by layer name, [rows, heads, queries, keys], with gradient history if gradients are enabled.
    """

    def __init__(self, layers: Layers, of: str = "") -> None:
        self.layers = layers
        self.of = of
        self.maps: dict[str, Tensor] = {}

    def __call__(self, name: str, cross: bool, maps: Tensor, rows: Rows) -> None:
        """Record the maps of a layer."""
        self.maps[name] = maps[rows.of(self.of)] if self.of else maps


class ReplaceMaps:
    """A tap that replaces the maps of one condition by `change(name, maps)`.

    Attributes:
        layers: the layers whose maps are replaced.
        change: maps the name of a layer and its maps to the new maps, of the same shape.
        of: name of the condition whose rows are replaced, if it is evaluated; "" for all rows.
    """

    def __init__(self, layers: Layers, change: Callable[[str, Tensor], Tensor], of: str = "") -> None:
        self.layers = layers
        self.change = change
        self.of = of

    def __call__(self, name: str, cross: bool, maps: Tensor, rows: Rows) -> Tensor | None:
        """The new maps of a layer, or None."""
        if not self.of:
            return self.change(name, maps)
        return replaced_rows(maps, rows, self.of, lambda own: self.change(name, own))


def replaced_rows(values: Tensor, rows: Rows, of: str, change: Callable[[Tensor], Tensor]) -> Tensor | None:
    """Apply `change` to the rows of one condition and leave the others; None if the condition is not evaluated."""
    if of not in rows:
        return None
    where = rows.of(of)
    return torch.cat([values[: where.start], change(values[where]), values[where.stop :]])


def attach(
    network: nn.Module, taps: Sequence[AttentionTap], rows: Rows | None, waiting: Waiting, checkpoints: Checkpoints
) -> Iterator[RemovableHandle]:
    """Attach taps to a network with hooks; the caller must remove every handle that is yielded.

    Taps of the same layer are applied in the order of the list, each to the maps that the previous one returned. In
    nested scopes every scope receives the layer's own maps, and their changes of the output add up.

    Args:
        network: the network.
        taps: the taps to attach.
        rows: layout of the batch; None for a batch under the target condition only.
        waiting: receives an error message for every layer and tap, which the hooks remove when it runs.
        checkpoints: the checkpointed blocks of the network.

    Raises:
        BadInput: a tap matches no layer.
    """
    layers: dict[str, Attention] = {}
    of: dict[str, list[AttentionTap]] = {}
    for tap in taps:
        for name, layer in tap.layers.of(network):
            layers[name] = layer
            of.setdefault(name, []).append(tap)
            waiting[name] = f"The network has the tapped layer {name}, but never runs it; tap another layer."
        if tap.layers.most_queries is not None:
            waiting[id(tap)] = (
                f'All attention layers "{tap.layers.module}" have more than {tap.layers.most_queries} queries at this '
                "size: increase most_queries."
            )
    for name, layer in layers.items():
        yield from _Tapped(name, layer, of[name], rows, waiting, checkpoints).hooks()


class _Tapped:
    """One layer and the taps of its maps."""

    def __init__(
        self,
        name: str,
        layer: Attention,
        taps: Sequence[AttentionTap],
        rows: Rows | None,
        waiting: Waiting,
        checkpoints: Checkpoints,
    ) -> None:
        self.name = name
        self.layer = layer
        self.taps = taps
        self.rows = rows
        self.waiting = waiting
        self.checkpoints = checkpoints
        self.parts: dict[str, Tensor] = {}

    def hooks(self) -> Iterator[RemovableHandle]:
        for part in ("to_q", "to_k", "to_v"):
            yield attach_hook(getattr(self.layer, part), partial(self._record, part))
        yield attach_hook(self.layer, self._after_layer, with_kwargs=True)

    def _record(self, part: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.parts[part] = output

    def _after_layer(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Any:
        self.waiting.pop(self.name, None)
        q, k, v = (self.parts.pop(part) for part in ("to_q", "to_k", "to_v"))
        taps = [tap for tap in self.taps if tap.layers.reach(q.shape[1])]
        if not taps:
            return None
        with self.checkpoints.hooked(self.name) as replaced:
            own = maps = self._maps(q, k, kwargs.get("attention_mask", args[2] if len(args) > 2 else None))
            for tap in taps:
                self.waiting.pop(id(tap), None)
                changed = tap(self.name, self.layer.is_cross_attention, maps, self.rows or Rows((TARGET,), len(maps)))
                maps = maps if changed is None else self._checked(changed, own)
            if maps is own:
                return None
            replaced()
            return output + self._change_of_output(maps - own, v, output)

    def _maps(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """A = softmax(Q K^T / sqrt(d)), [rows, heads, queries, keys]."""
        rows = len(q)
        mask = self.layer.prepare_attention_mask(mask, k.shape[1], rows)
        q, k = (self.layer.head_to_batch_dim(each) for each in (q, k))
        return self.layer.get_attention_scores(q, k, mask).unflatten(0, (rows, self.layer.heads))

    def _change_of_output(self, moved: Tensor, v: Tensor, output: Tensor) -> Tensor:
        """The change of the output, W_out (A' - A) V / rescale."""
        heads = moved.to(v.dtype) @ self.layer.head_to_batch_dim(v, out_dim=4)
        change = _without_bias(self.layer.to_out[0], heads.transpose(1, 2).flatten(2))
        change = change if output.ndim == 3 else change.transpose(1, 2).reshape(output.shape)
        return change / self.layer.rescale_output_factor

    def _checked(self, maps: Tensor, own: Tensor) -> Tensor:
        if maps.shape != own.shape:
            raise BadInput(
                f"The maps that replace those of {self.name} must have the shape {tuple(own.shape)}, "
                f"not {tuple(maps.shape)}."
            )
        return maps


def _without_bias(linear: nn.Module, x: Tensor) -> Tensor:
    """W x of a linear layer W x + b; with active LoRAs, W is that of the layer and the LoRAs together."""
    if isinstance(linear, nn.Linear):
        return F.linear(x, linear.weight)
    bias = cast(nn.Linear, linear.base_layer).bias
    out = cast(Tensor, linear.forward(x))  # not called, because a call would run hooks
    return out if bias is None else out - bias


def _check(name: str, layer: Attention) -> None:
    """Raise BadInput for a layer whose output is not W_out A V of a single set of queries, keys and values."""
    plain = type(layer.processor) in (AttnProcessor, AttnProcessor2_0, XFormersAttnProcessor)
    linear = isinstance(getattr(layer.to_out[0], "base_layer", layer.to_out[0]), nn.Linear)
    if not plain or layer.norm_q is not None or layer.norm_k is not None or not linear:
        raise BadInput(
            f"The attention maps of {name} cannot be tapped with its processor {type(layer.processor).__name__}: "
            "load the network with diffusers' default processors, without adapters or fused projections."
        )
