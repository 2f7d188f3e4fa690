"""How many latents go through a network in one call when the user does not say."""

ELEMENTS = 2**18
"""Latent elements in one call of the network by default: 16 latents of Stable Diffusion at 512 pixels."""


def rows_per_call(c: int, h: int, w: int) -> int:
    """How many latents of c x h x w go through the network in one call when the user does not say."""
    return max(2, min(64, ELEMENTS // (c * h * w)))
