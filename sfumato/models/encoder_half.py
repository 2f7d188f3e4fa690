"""Reuse of the U-Net's encoder activations in a second evaluation at the same x_t, as for Asyrp's two predictions."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from sfumato.core.condition import Condition
from sfumato.core.rows import Rows
from sfumato.hooks import attach_hook
from sfumato.models.taps import AnyTap, Tap, modules_of, tapped

MIDDLE = "mid_block"


def split(taps: Sequence[Any]) -> tuple["EncoderHalf | None", list[AnyTap]]:
    """The first `EncoderHalf` among taps, and the taps that read or replace something."""
    halves = [tap for tap in taps if isinstance(tap, EncoderHalf)]
    return halves[0] if halves else None, [tap for tap in taps if not isinstance(tap, EncoderHalf)]


@dataclass(eq=False)
class Evaluation:
    """An evaluation of a U-Net: its inputs, and the arguments that it passed to the blocks of its decoder."""

    x: Tensor
    t: int | Tensor
    condition: Condition | None
    taps: list[AnyTap]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def of(self, x: Tensor, t: int | Tensor, condition: Condition | None) -> bool:
        """Whether these are its inputs."""
        return _equal(self.x, x) and _equal(self.t, t) and _same(self.condition, condition)

    def new(self, taps: Sequence[AnyTap]) -> list[AnyTap]:
        """The taps that this evaluation did not have."""
        return [tap for tap in taps if not any(tap is each for each in self.taps)]

    def decode(self, unet: Any, rows: Rows, taps: Sequence[AnyTap]) -> Tensor:
        """Output of the network with additional taps, computed from the recorded encoder half."""
        args, kwargs = self.calls[0]
        h = cast(Tensor, args[0] if args else kwargs["hidden_states"])
        acting = [tap for tap in taps if any(_in_decoder(name) and name != MIDDLE for name in modules_of(unet, tap))]
        for tap in self.new(taps):
            if MIDDLE in modules_of(unet, tap):
                replaced = cast(Tap, tap)(MIDDLE, h, rows)
                h = h if replaced is None else replaced
        with tapped(unet, acting, rows):
            for block, (args, kwargs) in zip(unet.up_blocks, self.calls, strict=True):
                h = block(h, *args[1:], **kwargs) if args else block(**kwargs | {"hidden_states": h})
            if unet.conv_norm_out is not None:
                h = unet.conv_act(unet.conv_norm_out(h))
            return cast(Tensor, unet.conv_out(h))


class EncoderHalf:
    """A tap that lets the second evaluation of a step reuse the encoder half of the first.

    Return the same object from `taps` and, next to the taps of the second evaluation, from `prediction_taps`. If those
    read or replace the output of the middle block or modules of the decoder only, the second evaluation runs the
    decoder alone. In all other cases the complete network is evaluated. The result is the same, bit for bit.

    The latest evaluation of a timestep is kept for each condition: in a step with an energy, the conditions of the
    guidance are evaluated separately.

    Args:
        constant: reuse the encoder half even if gradients are enabled. Gradients then flow through the decoder and the
            taps only. This is correct if only tensors that the taps add need gradients, not x_t or the weights.
    """

    def __init__(self, *, constant: bool = False) -> None:
        self.constant = constant
        self._kept: list[Evaluation] = []

    @contextmanager
    def recording(
        self, unet: nn.Module, x: Tensor, t: int | Tensor, condition: Condition | None, taps: Sequence[AnyTap]
    ) -> Iterator[None]:
        """Record the evaluation of the network in a `with` block."""
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            calls.append((_detached(args), _detached(kwargs)))

        self._kept = [each for each in self._kept if _equal(each.t, t) and not _same(each.condition, condition)]
        with ExitStack() as hooks:
            for block in _decoder_blocks(unet):
                hooks.callback(attach_hook(block, record, with_kwargs=True).remove)
            yield
        self._kept.append(Evaluation(x.detach(), t, condition, list(taps), calls))

    def of(
        self, unet: nn.Module, x: Tensor, t: int | Tensor, condition: Condition | None, taps: Sequence[AnyTap]
    ) -> Evaluation | None:
        """The recorded evaluation whose encoder activations are valid for one with these inputs and taps, or None.

        This requires equal inputs, and new taps in the middle block or the decoder only. If gradients are enabled, it
        also requires `constant`, because the recorded activations have no gradient history.
        """
        if torch.is_grad_enabled() and not self.constant:
            return None
        found = next((each for each in self._kept if each.calls and each.of(x, t, condition)), None)
        if found is None or not all(_in_decoder(name) for tap in found.new(taps) for name in modules_of(unet, tap)):
            return None
        return found


def _decoder_blocks(unet: Any) -> Sequence[nn.Module]:
    """The blocks whose inputs are recorded; () for networks with further skip connections past the middle block."""
    skips = any(hasattr(block, "skip_conv") for block in unet.up_blocks)
    fourier = getattr(unet.config, "time_embedding_type", "") == "fourier"
    return () if skips or fourier or unet.mid_block is None else unet.up_blocks


def _in_decoder(name: str) -> bool:
    return name == MIDDLE or name.startswith(("up_blocks.", "conv_norm_out", "conv_act", "conv_out"))


def _detached(value: Any) -> Any:
    """Detach all tensors in a value, so that the activations of the encoder are not kept in memory."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {name: _detached(each) for name, each in value.items()}
    return tuple(map(_detached, value)) if isinstance(value, tuple) else value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.shape == other.shape and torch.equal(one, other))
    return bool(type(one) is type(other) and one == other)


def _same(one: Condition | None, other: Condition | None) -> bool:
    if one is None or other is None:
        return one is other
    parts = ("tokens", "pooled", "added", "maps", "labels", "token_mask", "names", "rows")
    changes, others = one.weight_changes, other.weight_changes
    return all(_equal(getattr(one, name), getattr(other, name)) for name in parts) and (
        changes.keys() == others.keys() and all(_equal(changes[name], others[name]) for name in changes)
    )
