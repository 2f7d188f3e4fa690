"""Conversion between pixels and the latents of the denoising network."""

import copy
import math
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import BadInput

LARGE = 2**21
"""Number of pixels above which an AutoencoderKL encodes and decodes in tiles, so that memory stays bounded."""
TILE = 1024
"""Side of these tiles in pixels; neighbours overlap by a quarter (diffusers' enable_tiling)."""


class Codec(Protocol):
    """Encodes pixels to latents and decodes latents to pixels.

    Attributes:
        channels: channels of a latent.
        factor: downsampling factor along each side.
        module: the autoencoder network, or None.
    """

    channels: int
    factor: int
    module: nn.Module | None

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode pixels [b,3,h,w] in [-1,1] to latents [b,c,h/factor,w/factor]."""

    def encode_unscaled(self, pixels: Tensor) -> Tensor:
        """Encode as `encode`, without the scaling of the latents."""

    def scaled(self, latents: Tensor) -> Tensor:
        """Scale latents from `encode_unscaled` for the denoising network."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [b,c,h,w] to pixels [b,3,h*factor,w*factor]."""


class PixelSpace:
    """The codec of networks that work on pixels: the identity."""

    factor = 1
    module = None

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def encode(self, pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The pixels."""
        return pixels

    def encode_unscaled(self, pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The pixels."""
        return pixels

    def scaled(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The latents, which are pixels."""
        return latents

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The pixels."""
        return latents


class Autoencoder:
    """An AutoencoderKL, VQModel or AutoencoderTiny, with the scaling of its latents.

    It always computes in float32: it runs only once per image, rounding in half precision would be visible, and SDXL's
    autoencoder overflows in half precision.

    Raises:
        BadInput: scaling_factor, latents_mean or latents_std is invalid in the configuration.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        config: Any = module.config
        self.channels = int(config.latent_channels)
        # AutoencoderTiny has a wrong `block_out_channels`
        levels = getattr(config, "encoder_block_out_channels", None) or config.block_out_channels
        self.factor = int(2 ** (len(levels) - 1))
        self.scale = _scaling_factor(config)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.mean = _per_channel(config, "latents_mean", 0.0)
        self.std = _per_channel(config, "latents_std", 1.0)

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """The mode of the posterior (VQModel: the latents before quantisation), scaled for the denoising network."""
        return self.scaled(self.encode_unscaled(pixels))

    def scaled(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Latents from `encode_unscaled`, scaled for the denoising network."""
        return (latents - self.mean.to(latents) - self.shift) / self.std.to(latents) * self.scale

    def encode_unscaled(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """The mode of the posterior (VQModel: the latents before quantisation), without scaling."""
        encoded: Any = self._sized(pixels.shape[-2] * pixels.shape[-1]).encode(pixels.float())
        return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
        """Undo the scaling and decode; a VQModel quantises first. Values may slightly exceed [-1,1]."""
        latents = latents.float()
        unscaled = latents / self.scale * self.std.to(latents) + self.shift + self.mean.to(latents)
        decoded: Any = self._sized(latents.shape[-2] * latents.shape[-1] * self.factor**2).decode(unscaled)
        return decoded.sample

    def _sized(self, pixels: int) -> Any:
        """The module for images of this number of pixels: an AutoencoderKL evaluates more than `LARGE` in tiles.

        diffusers keeps this choice in the module, which threads share, so it is made in a copy with the same weights.
        """
        if pixels <= LARGE or not hasattr(self.module, "tile_latent_min_size"):
            return self.module
        tiled: Any = copy.copy(self.module)
        tiled.enable_tiling()
        tiled.tile_sample_min_size, tiled.tile_latent_min_size = TILE, TILE // self.factor
        return tiled


def _scaling_factor(config: Any) -> float:
    scale = getattr(config, "scaling_factor", None)
    if not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
        raise BadInput(
            f"The autoencoder's scaling_factor must be a number above 0, not {scale!r:.100}: set it in its config.json "
            "(Stable Diffusion 1.x and 2.x have 0.18215, XL 0.13025)."
        )
    return float(scale)


def _per_channel(config: Any, name: str, default: float) -> Float[Tensor, "1 c 1 1"]:
    values = getattr(config, name, None)
    if values is None:
        return torch.full((1, 1, 1, 1), default)
    channels = int(config.latent_channels)
    if not isinstance(values, (list, tuple)) or len(values) != channels:
        raise BadInput(f"The autoencoder's {name} must be {channels} numbers or null, not {values!r:.100}.")
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
