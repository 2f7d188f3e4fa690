"""Default number of latents per forward pass of a network."""

ELEMENTS = 2**18
"""Default number of latent elements per forward pass: 16 latents of Stable Diffusion at 512 pixels."""


def rows_per_call(c: int, h: int, w: int) -> int:
    """Default batch size for latents of shape [c, h, w], between 2 and 64."""
    return max(2, min(64, ELEMENTS // (c * h * w)))
