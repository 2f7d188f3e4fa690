"""Between pixels and the space that the network works in."""

import math
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import BadInput


class Codec(Protocol):
    """Pixels to latents and back.

    Attributes:
        channels: channels of a latent.
        factor: pixels per latent, along each side.
        module: the network behind it, or None.
    """

    channels: int
    factor: int
    module: nn.Module | None

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [b,3,h,w] in [-1,1] to latents [b,c,h/factor,w/factor]."""

    def encode_unscaled(self, pixels: Tensor) -> Tensor:
        """As `encode`, without the scaling of the latents."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [b,c,h,w] to pixels [b,3,h*factor,w*factor]."""


class PixelSpace:
    """The network works on the pixels themselves."""

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

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The pixels."""
        return latents


class Autoencoder:
    """An AutoencoderKL, VQModel or AutoencoderTiny, with the scaling of its latents.

    It computes in float32 whatever the network's precision is: it runs once per image, its rounding would show, and
    SDXL's overflows in half precision.

    Raises:
        BadInput: the configuration does not say how its latents are scaled.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        config: Any = module.config
        self.channels = int(config.latent_channels)
        # AutoencoderTiny reports its own width wrongly under `block_out_channels`
        levels = getattr(config, "encoder_block_out_channels", None) or config.block_out_channels
        self.factor = int(2 ** (len(levels) - 1))
        self.scale = _scaling_factor(config)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.mean = _per_channel(config, "latents_mean", 0.0)
        self.std = _per_channel(config, "latents_std", 1.0)

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """The mode of the posterior (or what is quantised, in a VQModel), scaled as the network saw it in training."""
        latents = self.encode_unscaled(pixels)
        return (latents - self.mean.to(latents) - self.shift) / self.std.to(latents) * self.scale

    def encode_unscaled(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """The mode of the posterior (or what is quantised) as the autoencoder itself gives it."""
        encoded: Any = self.module.encode(pixels.float())
        return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
        """The inverse of the scaling, decoded; a VQModel quantises first. Values may exceed [-1,1] a little."""
        latents = latents.float()
        unscaled = latents / self.scale * self.std.to(latents) + self.shift + self.mean.to(latents)
        decoded: Any = self.module.decode(unscaled)
        return decoded.sample


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
