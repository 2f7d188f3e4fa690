"""Skip dropout: training a U-Net to use its deepest blocks.

A small U-Net with cross-attention at every resolution can predict the noise at its finest level, from the skip
connections there. The middle block then has nearly no influence, and methods that change its output h (Asyrp, Kwon et
al., ICLR 2023) have no effect. With skip dropout all skip connections of randomly chosen samples are set to 0, as
dropout (Srivastava et al., JMLR 2014) does to single units, so that the content of these samples has to pass through h.

Only samples with much noise are chosen. There the target depends little on the noise of single positions, which cannot
pass through h, and the content of the image is decided, which such methods change.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Bool, Float
from torch import Tensor, nn

MOST_SIGNAL = 0.1
"""Samples with a larger abar_t keep their skip connections: with the default schedule, those with t < 475."""


def draw_dropped(abar: Float[Tensor, " b"], probability: float, generator: torch.Generator) -> Bool[Tensor, " b"]:
    """Choose the samples whose skip connections are dropped: with `probability` where abar_t < `MOST_SIGNAL`."""
    return (torch.rand(len(abar), generator=generator) < probability) & (abar < MOST_SIGNAL)


@contextmanager
def skips_dropped(unet: UNet2DConditionModel, dropped: Bool[Tensor, " b"]) -> Iterator[None]:
    """Set the skip connections of some samples to 0 in a `with` block.

    Args:
        unet: the U-Net.
        dropped: the samples of the batch whose skip connections are set to 0.
    """
    kept = (~dropped)[:, None, None, None]

    def drop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        skips = tuple(skip * kept.to(skip) for skip in kwargs["res_hidden_states_tuple"])
        return args, kwargs | {"res_hidden_states_tuple": skips}

    with ExitStack() as hooks:
        for block in unet.up_blocks:
            hooks.callback(block.register_forward_pre_hook(drop, with_kwargs=True).remove)
        yield
