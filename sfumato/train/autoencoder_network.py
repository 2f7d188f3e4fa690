"""The autoencoder of latent diffusion: its architecture in a recipe, and its initial weights."""

import math
from dataclasses import dataclass
from pathlib import Path

from diffusers import AutoencoderKL, VQModel

from sfumato.errors import BadInput
from sfumato.train.frozen import load_autoencoder, refuse_other_config
from sfumato.train.growing import grow
from sfumato.train.ranges import ranged


@dataclass(frozen=True)
class AutoencoderNetwork:
    """Architecture and initial weights of the autoencoder: table [network].

    Attributes:
        regularisation: "kl" or "vq".
        f: downsampling factor, pixels per latent along one side: 2, 4, 8, 16 or 32.
        latent_channels: channels of the latents.
        channels: width of each resolution level from full resolution down, log2(f) + 1 values.
        layers: residual blocks per level.
        attention: self-attention in the middle block.
        groups: groups of the group normalisation.
        codebook: number of VQ codes.
        start: folder of an exported autoencoder with the initial weights; "" for random weights. It has this
            architecture, or is a KL autoencoder for half the image size with latents of the same shape, to which one
            level is added (`sfumato.train.growing`).
        freeze_encoder: train only the decoder (requires `start`). The latents do not change, so a diffusion model
            trained on them stays valid.
    """

    regularisation: str = "kl"
    f: int = ranged(4, low=2)
    latent_channels: int = ranged(4, low=1)
    channels: tuple[int, ...] = ranged((32, 64, 128), low=1)
    layers: int = ranged(1, low=1)
    attention: bool = False
    groups: int = ranged(16, low=1)
    codebook: int = ranged(1024, low=1)
    start: str = ""
    freeze_encoder: bool = False


def build_autoencoder(shape: AutoencoderNetwork, size: int) -> AutoencoderKL | VQModel:
    """Build an autoencoder with random weights.

    Args:
        shape: its architecture.
        size: side of the training images in pixels.

    Raises:
        BadInput: f is not in {2, 4, 8, 16, 32}, the number of widths is not log2(f) + 1, a width is not a multiple of
            `groups`, or `size` is not a multiple of f.
    """
    if shape.f not in (2, 4, 8, 16, 32):
        raise BadInput(f"network.f must be 2, 4, 8, 16 or 32, not {shape.f}.")
    levels = int(math.log2(shape.f)) + 1
    if len(shape.channels) != levels:
        raise BadInput(f"network.channels needs {levels} widths for f={shape.f}, not {len(shape.channels)}.")
    if any(c % shape.groups for c in shape.channels):
        raise BadInput(
            f"network.channels must be multiples of network.groups = {shape.groups}, not {list(shape.channels)}."
        )
    if size % shape.f:
        raise BadInput(f"data.size must be a multiple of f={shape.f}, not {size}.")
    common = dict(
        in_channels=3, out_channels=3, block_out_channels=shape.channels, layers_per_block=shape.layers,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=shape.latent_channels, norm_num_groups=shape.groups, sample_size=size,
        mid_block_add_attention=shape.attention, scaling_factor=1.0,
    )  # fmt: skip
    if shape.regularisation == "kl":
        return AutoencoderKL(**common)
    if shape.regularisation == "vq":
        vq = VQModel(**common, num_vq_embeddings=shape.codebook, vq_embed_dim=shape.latent_channels)
        # The default of diffusers reproduces a bug of the first VQGAN code: beta = 0.25 multiplies the codebook term
        # instead of the commitment term (van den Oord et al., NeurIPS 2017, equation 3).
        vq.quantize.legacy = False
        return vq
    raise BadInput(f"network.regularisation must be 'kl' or 'vq', not '{shape.regularisation}'.")


def load_weights(autoencoder: AutoencoderKL | VQModel, folder: Path) -> None:
    """Load the weights of an exported autoencoder; the levels that it lacks are added (`sfumato.train.growing`).

    Args:
        autoencoder: an autoencoder of the architecture in the recipe; changed in place.
        folder: folder of the exported autoencoder.

    Raises:
        BadInput: the folder cannot be read, or the architectures do not match.
    """
    start = load_autoencoder(folder)
    refuse_other_config(autoencoder, start, "network.start", folder)
    both_kl = isinstance(autoencoder, AutoencoderKL) and isinstance(start, AutoencoderKL)
    if both_kl and len(start.config.block_out_channels) + 1 == len(autoencoder.config.block_out_channels):
        grow(autoencoder, start)
        return
    try:
        autoencoder.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise BadInput(
            f"network.start: the autoencoder in {folder} does not have the architecture that the recipe's [network] "
            "gives; correct [network], or leave network.start out."
        ) from error


def freeze_encoder(autoencoder: AutoencoderKL | VQModel, shape: AutoencoderNetwork) -> None:
    """Turn off the gradients of all layers before the latents. Raises BadInput if the weights would be random."""
    if not shape.start:
        raise BadInput("network.freeze_encoder needs network.start: without it the encoder would keep random weights.")
    autoencoder.encoder.requires_grad_(False)
    autoencoder.quant_conv.requires_grad_(False)
