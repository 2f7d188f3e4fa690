"""Grow a KL autoencoder by one level at the highest resolution (as Karras et al., ICLR 2018, grow their networks).

An autoencoder for images of side s becomes one for images of side 2 s with the same latents. Before training, the
grown encoder is approximately the old one applied to the image at half size, and the grown decoder the old one
followed by upsampling.
"""

from collections.abc import Mapping

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from sfumato.errors import BadInput


@torch.no_grad()
def grow(grown: AutoencoderKL, start: AutoencoderKL) -> None:
    """Initialise `grown` from an autoencoder with one level fewer.

    The residual blocks of the new level start as the identity and its upsampling as nearest-neighbour interpolation.
    The new `conv_in` copies the three colour channels, and the new downsampling applies the `conv_in` of `start`.

    Args:
        grown: the autoencoder to initialise, in place.
        start: the trained autoencoder.

    Raises:
        BadInput: the widths are not those of `start` with the first one repeated, or other layers differ.
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
    different = [name for name, value in moved.items() if name not in state or state[name].shape != value.shape]
    different += [name for name in state if name not in moved and not name.startswith(new)]
    if different:
        raise BadInput(
            f"network.start cannot be grown to the architecture in [network]: {different[0]} differs; give [network] "
            "the settings that network.start was trained with."
        )
    grown.load_state_dict(moved, strict=False)
    _pass_colours(grown.encoder.conv_in)
    _apply_conv_in(grown.encoder.down_blocks[0].downsamplers[0].conv, start.encoder.conv_in)
    nn.init.dirac_(grown.decoder.up_blocks[-2].upsamplers[0].conv.weight)
    nn.init.zeros_(grown.decoder.up_blocks[-2].upsamplers[0].conv.bias)
    for block in (*grown.encoder.down_blocks[0].resnets, *grown.decoder.up_blocks[-1].resnets):
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)


def _moved(start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of `start` for the grown autoencoder, without the encoder's `conv_in`.

    The encoder numbers its levels from the pixels, so the numbers increase by one; the decoder from the latents.
    """
    moved = {}
    for name, value in start.items():
        half, part, *rest = name.split(".")
        if (half, part) == ("encoder", "down_blocks"):
            name = ".".join([half, part, str(int(rest[0]) + 1), *rest[1:]])
        if (half, part) != ("encoder", "conv_in"):
            moved[name] = value
    return moved


def _pass_colours(conv_in: nn.Conv2d) -> None:
    """Let channels 0 to 2 copy the colour channels of the image; the others keep their random filters."""
    conv_in.weight[:3] = 0
    conv_in.weight[:3, :, 1, 1] = torch.eye(3)
    conv_in.bias[:3] = 0


def _apply_conv_in(downsampling: nn.Conv2d, conv_in: nn.Conv2d) -> None:
    downsampling.weight.zero_()
    downsampling.weight[:, :3] = conv_in.weight
    downsampling.bias.copy_(conv_in.bias)
