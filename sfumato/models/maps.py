"""The channels that inpainting and InstructPix2Pix networks take concatenated to the latent, as diffusers makes them.

Give what these functions return as `maps` to `DiffusionModel.condition` or `Model.generate`:

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

    The mask is made binary at 0.5. masked_image_latents encode the pixels with the masked ones at 0, mid-grey; the mask
    itself is reduced to the latent's resolution by taking the nearest pixel. One difference from the pipeline:
    masked_image_latents are the mode of the autoencoder's posterior where the pipeline draws a sample, so that they
    depend on no seed.

    Args:
        network: an inpainting network: it takes one channel more than twice those of a latent (9 in Stable Diffusion).
        pixels: pictures in [-1,1], with sides that are multiples of `network.multiple`.
        mask: [b,1,h,w] or [1,1,h,w] of the pictures' size, in [0,1] or bool: 1 where the picture is to be replaced.

    Returns:
        float32, in the latent's resolution.

    Raises:
        BadInput: another network, pictures off its grid, or a mask of another shape or with other values.
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

    The prediction without a picture, the first term of InstructPix2Pix's guidance (arXiv 2211.09800, eq. 3), has zeros
    in their place.

    Args:
        network: an InstructPix2Pix network: it takes twice the channels of a latent (8 in Stable Diffusion).
        pixels: pictures in [-1,1], with sides that are multiples of `network.multiple`.

    Returns:
        float32, in the latent's resolution.

    Raises:
        BadInput: another network, or pictures off its grid.
    """
    _check_channels(network, network.latent_channels, "an InstructPix2Pix network")
    network.check_pixels(pixels)
    return network.codec.encode_unscaled(pixels.to(network.device, torch.float32))


def _check_channels(network: DiffusionModel, channels: int, kind: str) -> None:
    """Latent diffusion's inpainting and super-resolution without prompts take other maps, in another order."""
    if network.map_channels != channels or not network.takes_text:
        text = "" if network.takes_text else " and no prompts"
        raise BadInput(
            f"{network.name or 'This network'} is not {kind}: it takes {network.map_channels} channels beside the "
            f"latent{text}, not {channels} channels and prompts."
        )


def _check_mask(mask: Tensor, pixels: Tensor) -> None:
    if mask.ndim != 4 or mask.shape[0] not in (1, len(pixels)) or mask.shape[1:] != (1, *pixels.shape[2:]):
        wanted = [len(pixels), 1, *pixels.shape[2:]]
        raise BadInput(f"The mask must have the shape {wanted}, that of the pictures, not {list(mask.shape)}.")
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise BadInput("The mask must lie between 0, where the picture stays, and 1, where it is replaced.")
