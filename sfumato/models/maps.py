"""The channels that inpainting and InstructPix2Pix networks take concatenated to the latent, as in diffusers.

Pass the result of these functions as `maps` to `DiffusionModel.condition`, `Model.generate`, `Model.invert` or
`Inverted.edit`:

    maps = inpainting_maps(network, pixels, mask)
    network.predict(x, t, network.condition("a red apple", maps=maps))
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel


def inpainting_maps(
    network: DiffusionModel, pixels: Float[Tensor, "b 3 h w"], mask: Tensor
) -> Float[Tensor, "b 1+c h2 w2"]:
    """Mask and masked_image_latents, concatenated as in StableDiffusionInpaintPipeline.

    The mask is binarised at 0.5. For masked_image_latents the masked pixels are set to 0 (mid-grey) before encoding.
    The mask is resized to the latents with nearest-neighbour interpolation. In contrast to the pipeline, which samples
    the autoencoder's posterior, masked_image_latents are its mode, so that they do not depend on a seed.

    Args:
        network: an inpainting network, whose U-Net takes 1 + 2c input channels for latents of c (9 in Stable
            Diffusion).
        pixels: images in [-1,1], with sides that are multiples of `network.multiple`.
        mask: [b,1,h,w] or [1,1,h,w] of the images' size, in [0,1] or bool: 1 where the image is to be replaced.

    Returns:
        The maps, float32, at the latents' resolution.

    Raises:
        BadInput: the network is not an inpainting network, a side of the images is not a multiple, or the mask has
            another shape or values outside of [0,1].
    """
    _check_channels(network, 1 + network.latent_channels, "an inpainting network")
    network.check_pixels(pixels)
    _check_mask(mask, pixels)
    pixels, mask = (each.to(network.device, torch.float32) for each in (pixels, mask))
    binary = (mask >= 0.5).float().expand(len(pixels), -1, -1, -1)
    masked_image_latents = network.encode(pixels * (binary < 0.5))
    return torch.cat([F.interpolate(binary, size=masked_image_latents.shape[-2:]), masked_image_latents], dim=1)


def instruct_maps(network: DiffusionModel, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
    """image_latents of StableDiffusionInstructPix2PixPipeline: the mode of the posterior, without scaling_factor.

    For the prediction without image, the first term of InstructPix2Pix's guidance (arXiv 2211.09800, eq. 3), use zeros
    instead.

    Args:
        network: an InstructPix2Pix network, whose U-Net takes 2c input channels for latents of c (8 in Stable
            Diffusion).
        pixels: images in [-1,1], with sides that are multiples of `network.multiple`.

    Returns:
        The maps, float32, at the latents' resolution.

    Raises:
        BadInput: the network is not an InstructPix2Pix network, or a side of the images is not a multiple.
    """
    _check_channels(network, network.latent_channels, "an InstructPix2Pix network")
    network.check_pixels(pixels)
    return network.codec.encode_unscaled(pixels.to(network.device, torch.float32))


def _check_channels(network: DiffusionModel, channels: int, kind: str) -> None:
    """Check the number of channels, and that there are prompts: models without prompts order their maps differently."""
    if network.map_channels != channels or not network.takes_text:
        text = "" if network.takes_text else " and no prompts"
        raise BadInput(
            f"{network.name or 'This network'} is not {kind}: it takes {network.map_channels} channels in addition to "
            f"the latent{text}, not {channels} channels and prompts."
        )


def _check_mask(mask: Tensor, pixels: Tensor) -> None:
    if mask.ndim != 4 or mask.shape[0] not in (1, len(pixels)) or mask.shape[1:] != (1, *pixels.shape[2:]):
        wanted = [len(pixels), 1, *pixels.shape[2:]]
        raise BadInput(f"The mask must have the shape {wanted}, that of the images, not {list(mask.shape)}.")
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise BadInput("The values of the mask must be in [0, 1]: 0 keeps the image, 1 replaces it.")
