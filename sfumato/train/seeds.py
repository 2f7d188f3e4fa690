"""Random generators of a training step: a function of (seed, step, rank), independent of the global random state.

A resumed run therefore needs no saved random state: step 1000 draws the same images, noise and timesteps
whether the process started at step 0 or at step 999.
"""

import hashlib

import torch


def step_generator(seed: int, step: int, rank: int, *, tag: str = "", micro: int = 0) -> torch.Generator:
    """A CPU generator for one micro-batch of one step on one process.

    Args:
        seed: seed of the recipe.
        step: optimizer step, from 0.
        rank: index of the process.
        tag: purpose of the draws; different tags give independent streams.
        micro: index of the micro-batch within the step (gradient accumulation).
    """
    key = f"{tag}/{seed}/{step}/{rank}/{micro}".encode()
    digest = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
    return torch.Generator().manual_seed(digest & (2**63 - 1))
