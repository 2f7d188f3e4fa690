"""Growing a KL autoencoder by one level at the pixels' end (as Karras et al., ICLR 2018, grow their networks).

An autoencoder for pictures of side s becomes one for pictures of side 2 s with the same latents: its levels move one
step inwards, and a new outermost level begins as (nearly) "halve the picture, encode; decode, double the picture".
"""

from collections.abc import Mapping

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from sfumato.errors import BadInput


@torch.no_grad()
def grow(grown: AutoencoderKL, start: AutoencoderKL) -> None:
    """Give `grown`, which has one level more, the weights of `start` and an outermost level that changes little.

    The new residual blocks begin as the identity, the new upsampling as nearest neighbours. The new `conv_in` hands the
    colours on, and the new downsampling applies the `conv_in` of `start`.

    Raises:
        BadInput: the widths are not those of `start` with its first one repeated, or other parts differ.
    """
    narrow, wide = start.config.block_out_channels, grown.config.block_out_channels
    if tuple(wide) != (narrow[0], *narrow):
        raise BadInput(
            f"network.channels must be {[narrow[0], *narrow]} to grow from network.start, whose widths are "
            f"{list(narrow)}, not {list(wide)}."
        )
    state, moved, last = grown.state_dict(), _moved(start.state_dict()), len(wide) - 1
    new = (
        "encoder.conv_in.", "encoder.down_blocks.0.", f"decoder.up_blocks.{last}.",
        f"decoder.up_blocks.{last - 1}.upsamplers.",
    )  # fmt: skip
    unlike = [name for name, value in moved.items() if name not in state or state[name].shape != value.shape]
    unlike += [name for name in state if name not in moved and not name.startswith(new)]
    if unlike:
        raise BadInput(f"network.start cannot be grown to the recipe's shape: {unlike[0]} differs.")
    grown.load_state_dict(moved, strict=False)
    _pass_colours(grown.encoder.conv_in)
    _apply_conv_in(grown.encoder.down_blocks[0].downsamplers[0].conv, start.encoder.conv_in)
    nn.init.dirac_(grown.decoder.up_blocks[-2].upsamplers[0].conv.weight)
    nn.init.zeros_(grown.decoder.up_blocks[-2].upsamplers[0].conv.bias)
    for block in (*grown.encoder.down_blocks[0].resnets, *grown.decoder.up_blocks[-1].resnets):
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)


def _moved(start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder counts its levels from the pixels, so they move by one; the decoder counts from the latents."""
    moved = {}
    for name, value in start.items():
        half, part, *rest = name.split(".")
        if (half, part) == ("encoder", "down_blocks"):
            name = ".".join([half, part, str(int(rest[0]) + 1), *rest[1:]])
        if (half, part) != ("encoder", "conv_in"):
            moved[name] = value
    return moved


def _pass_colours(conv_in: nn.Conv2d) -> None:
    """Channels 0 to 2 are the picture's; the others keep their random filters."""
    conv_in.weight[:3] = 0
    conv_in.weight[:3, :, 1, 1] = torch.eye(3)
    conv_in.bias[:3] = 0


def _apply_conv_in(downsampling: nn.Conv2d, conv_in: nn.Conv2d) -> None:
    downsampling.weight.zero_()
    downsampling.weight[:, :3] = conv_in.weight
    downsampling.bias.copy_(conv_in.bias)
