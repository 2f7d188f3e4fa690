"""Memory that a gradient step on a U-Net keeps for its backward pass, computed from tensor shapes only.

The U-Net is on torch's device "meta", so tensors have shapes but no values. Every storage that autograd saves is
counted once; weights are excluded. With gradient checkpointing, blocks are recomputed one at a time during the backward
pass, so the tensors of the largest block are added.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from benchmarks.report import table
from benchmarks.stand_in import TOKENS, unet_of
from sfumato.models import checkpointing
from sfumato.models.attention import Layers, ReplaceMaps
from sfumato.models.layout import word_layers
from sfumato.models.taps import tapped
from sfumato.shifts.words import WordMaps

MIB = 2**20
CHANNELS, TEXT, SIDE = 320, 768, 64
"""Channels of the first level, width of the text and side of the latents of Stable Diffusion 1.5 at 512 pixels."""


@dataclass
class Kept:
    """Bytes that autograd saves: in total, and within each block that checkpointing recomputes."""

    total: int = 0
    blocks: dict[str, int] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _inside: list[str] = field(default_factory=list)

    def add(self, tensor: Tensor) -> Tensor:
        """Count a saved tensor, once per storage."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self.total += storage.nbytes()
            for name in self._inside[-1:]:
                self.blocks[name] = self.blocks.get(name, 0) + storage.nbytes()
        return tensor.detach()

    @contextmanager
    def counting(self, unet: nn.Module) -> Iterator[None]:
        """Count what is saved within the `with` block."""
        self._seen = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
        with ExitStack() as hooks:
            for name, module in unet.named_modules():
                if isinstance(module, (ResnetBlock2D, BasicTransformerBlock)):
                    hooks.callback(module.register_forward_pre_hook(partial(self._enter, name)).remove)
                    hooks.callback(module.register_forward_hook(self._leave).remove)
            hooks.enter_context(torch.autograd.graph.saved_tensors_hooks(self.add, lambda saved: saved))
            # tensors saved by taps are counted separately
            hooks.enter_context(patch.object(checkpointing, "detached", self.add))
            yield

    def _enter(self, name: str, module: nn.Module, inputs: Any) -> None:
        self._inside.append(name)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._inside.pop()


def of_prediction(unet: nn.Module, x: Tensor, tokens: Tensor) -> Tensor:
    """A loss of the predicted noise, as in DiffuseIT without its decoder."""
    found: Tensor = unet(x, torch.tensor(500), tokens).sample.square().mean()
    return found


def of_maps(unet: nn.Module, x: Tensor, tokens: Tensor) -> Tensor:
    """An energy of the attention maps of a word, as in Self-Guidance."""
    layers, grid = word_layers(unet, (x.shape[-2], x.shape[-1]))
    maps = WordMaps(layers, torch.ones(len(x), tokens.shape[1], device=x.device), grid)
    with tapped(unet, [maps]):
        unet(x, torch.tensor(500), tokens)
    return torch.stack([each.square().sum() for each in maps.maps.values()]).sum()


def of_replaced_maps(unet: nn.Module, x: Tensor, tokens: Tensor) -> Tensor:
    """A loss of the predicted noise next to a method that replaces cross-attention maps, as in Prompt-to-Prompt."""
    with tapped(unet, [ReplaceMaps(Layers(cross=True), lambda name, maps: maps.flip(-1))]):
        return of_prediction(unet, x, tokens)


def kept(work: Callable[[nn.Module, Tensor, Tensor], Tensor], *, checkpointing: bool, **size: int) -> Kept:
    """Memory that one gradient step with batch size 1 keeps for its backward pass.

    Args:
        work: the energy.
        checkpointing: whether diffusers' gradient checkpointing is on.
        size: channels, text and side, as `CHANNELS`, `TEXT` and `SIDE`, which are the defaults.
    """
    channels, text, side = size.get("channels", CHANNELS), size.get("text", TEXT), size.get("side", SIDE)
    with torch.device("meta"):
        unet: Any = unet_of(channels, text).requires_grad_(False)
        x, tokens = torch.empty(1, 4, side, side, requires_grad=True), torch.empty(1, TOKENS, text)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    found = Kept()
    with torch.enable_grad(), found.counting(unet):
        work(unet, x, tokens)
    return found


WORK = {
    "predicted noise (DiffuseIT)": of_prediction,
    "attention maps (Self-Guidance)": of_maps,
    "predicted noise, cross-attention maps replaced (Prompt-to-Prompt with DiffuseIT)": of_replaced_maps,
}
"""The energies of the table."""


def as_table(**size: int) -> str:
    """A Markdown table in MiB, fp32; for the size see `kept`."""
    rows: dict[str, list[str]] = {}
    for name, work in WORK.items():
        plain, saving = (kept(work, checkpointing=each, **size) for each in (False, True))
        again = max(plain.blocks.values())
        small = saving.total + again
        rows[name] = [f"{each / MIB:.0f}" for each in (plain.total, saving.total, again, small)]
        rows[name].append(f"{plain.total / small:.1f}")
    return table(("without", "with checkpointing", "largest block", "together", "times less"), rows)
