"""Skip dropout: training a U-Net to use its deepest blocks.

A small U-Net with cross-attention at every resolution can predict the noise from its skip connections alone. The middle
block then has nearly no influence, and methods that change its output h (Asyrp, Kwon et al., ICLR 2023) have no effect.
With skip dropout the skip connections of randomly chosen samples are set to 0 at all levels but the finest, as dropout
(Srivastava et al., JMLR 2014) does to single units, so that the content of these samples has to pass through h.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from diffusers import UNet2DConditionModel
from jaxtyping import Bool
from torch import Tensor, nn


@contextmanager
def skips_dropped(unet: UNet2DConditionModel, dropped: Bool[Tensor, " b"]) -> Iterator[None]:
    """Set the skip connections of some samples to 0 in a `with` block, at all levels but the finest.

    Args:
        unet: the U-Net.
        dropped: the samples of the batch whose skip connections are set to 0.
    """
    kept = (~dropped)[:, None, None, None]

    def drop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        skips = tuple(skip * kept.to(skip) for skip in kwargs["res_hidden_states_tuple"])
        return args, kwargs | {"res_hidden_states_tuple": skips}

    with ExitStack() as hooks:
        for block in unet.up_blocks[:-1]:
            hooks.callback(block.register_forward_pre_hook(drop, with_kwargs=True).remove)
        yield
