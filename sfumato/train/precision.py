"""The setting `run.precision` on a GPU.

`fp32` is IEEE single precision throughout. By default PyTorch computes convolutions on NVIDIA GPUs in TF32, and matrix
products too if a program enables it. TF32 has 10 instead of 23 bits of mantissa. It is therefore disabled during every
training step and while the frozen networks encode the data; torch's settings are restored in between and afterwards.

`bf16` and `fp16` are autocast: matrix products and convolutions in 16 bits; sums, norms, losses, weights and optimizer
states in fp32.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Context that disables TF32 if `precision` is "fp32", or "auto" (not yet measured).

    torch's settings are restored on exit.
    """
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv) if precision in ("fp32", "auto") else ()
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, setting in zip(places, before, strict=True):
            place.fp32_precision = setting
