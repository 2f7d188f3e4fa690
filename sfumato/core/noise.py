"""Gaussian noise as a function of (tag, seed, image, step), independent of global random state.

The noise of an image does not depend on its batch, on interruptions of the run, or on the process that runs it. The
numbers are drawn on the CPU in float32, so that they do not depend on the device.
"""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def stream(seed: int, image: int, step: int, tag: str = "") -> torch.Generator:
    """Return a new CPU generator, seeded with a 63-bit hash of (tag, seed, image, step)."""
    key = f"{tag}|{seed}|{image}|{step}".encode()
    digest = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
    return torch.Generator().manual_seed(digest & (2**63 - 1))


def gaussian(
    shape: Sequence[int],
    seed: int,
    image: int = 0,
    step: int = 0,
    *,
    tag: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "..."]:
    """Draw standard normal noise for one image at one step.

    Args:
        shape: shape of one image's latent, without the batch dimension.
        seed: the user's seed.
        image: index of the image in the user's list.
        step: a timestep, or any integer that identifies the draw.
        tag: purpose of the noise, so that different purposes use independent random numbers.
        device: device of the result.
        dtype: dtype of the result, converted from float32.
    """
    noise = torch.randn(tuple(shape), generator=stream(seed, image, step, tag), dtype=torch.float32)
    return noise.to(device=device, dtype=dtype)


def gaussian_batch(
    shape: Sequence[int],
    seeds: Sequence[int],
    images: Sequence[int] | None = None,
    step: int = 0,
    *,
    tag: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b ..."]:
    """Stack `gaussian` for every (seed, image) pair; the image index is 0 by default."""
    images = [0] * len(seeds) if images is None else images
    rows = [
        gaussian(shape, seed, image, step, tag=tag, device=device, dtype=dtype)
        for seed, image in zip(seeds, images, strict=True)
    ]
    return torch.stack(rows)
