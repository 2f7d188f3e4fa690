"""What `run.precision` means on a GPU.

`fp32` is IEEE single precision throughout. NVIDIA GPUs would otherwise compute convolutions, and where a program asks
for it matrix products, in TF32, which keeps 10 of the 23 bits of the mantissa; so TF32 is switched off around every
step and around the frozen networks' work before the first one, and is as it was in between and afterwards. `bf16` and
`fp16` are autocast: matrix products and convolutions in 16 bits, sums, norms, losses, weights and optimizer in fp32.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """While entered, fp32 is not rounded to TF32 where `precision` is "fp32", or "auto", which is not yet decided.

    Torch's settings are put back on exit.
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
