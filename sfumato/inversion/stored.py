"""Validation of the content of a saved inversion."""

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor

Rule: TypeAlias = tuple[Callable[[Any], bool], str]

FLOATS = (torch.float32, torch.float64)


def problems(header: Any, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the problems of a file, as clauses of an error message.

    Callers must stop at the first problem, because later checks assume that the earlier ones have passed.

    Args:
        header: the JSON value in the file's metadata, of any type.
        tensors: all tensors in the file.
    """
    if not isinstance(header, dict) or set(header) | set(_LATER) != set(_RULES):
        yield f"its header must have the entries {', '.join(_RULES)}"
    header = _LATER | header
    for name, (valid, wanted) in _RULES.items():
        if not valid(header[name]):
            yield f"{name} must be {wanted}"
    yield from _shapes(len(header["timesteps"]), tensors)
    images = tensors["x"].shape[1]
    for name, fewest in {"guidance_scales": images, "seeds": 0, "prompts": 0, "images": 0, "names": 0}.items():
        if len(header[name]) not in (fewest, images):
            yield f"{name} must have {images} entries, one for each image"
    if "z" not in tensors and header["eta"] != 0:
        yield "z is missing, although eta is not 0"
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            yield f"{name} contains NaN or infinity"


def _shapes(steps: int, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    if not {"x"} <= set(tensors) <= {"x", "z", "pixels"}:
        yield "its tensors must be x, z and pixels"
    x, z, pixels = tensors["x"], tensors.get("z"), tensors.get("pixels")
    if x.dtype not in FLOATS or x.ndim != 5 or len(x) != steps + 1 or 0 in x.shape:
        yield f"x must be a float tensor [{steps + 1},b,c,h,w], one latent more than steps"
    if z is not None and (z.dtype not in FLOATS or z.shape != x[1:].shape):
        yield f"z must be a float tensor {list(x[1:].shape)}, one map for each step of x"
    if pixels is None:
        return
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or len(pixels) != x.shape[1] or 0 in pixels.shape:
        yield f"pixels must be a uint8 tensor [{x.shape[1]},h,w,3], one image for each row of x"
    if pixels.shape[-1] != 3:
        yield f"pixels must have 3 channels, not {pixels.shape[-1]}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    kind = isinstance(value, int | float) and not isinstance(value, bool)
    return kind and abs(value) <= sys.float_info.max  # false for NaN, and for integers too large for a float


def _every(valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, list) and all(map(valid, values))


def _is_run(values: Any) -> bool:
    if not _every(_is_integer)(values) or not values:
        return False
    return values[-1] >= 0 and all(above > below for above, below in pairwise(values))


_RULES: dict[str, Rule] = {
    "kind": (_is_text, "text"),
    "timesteps": (_is_run, "a list of integers of at least 0, largest first"),
    "eta": (lambda value: _is_number(value) and 0 <= value <= 1, "a number between 0 and 1"),
    "guidance_scales": (_every(_is_number), "a list of finite numbers"),
    "seeds": (_every(_is_integer), "a list of integers"),
    "prompts": (_every(_is_text), "a list of texts"),
    "parameters": (lambda value: isinstance(value, dict), "a JSON object"),
    "model": (_is_text, "text"),
    "images": (_every(_is_text), "a list of texts"),
    "names": (_every(_is_text), "a list of texts"),
}
ENTRIES = tuple(_RULES)
"""Names of the entries of the header."""
_LATER: dict[str, Any] = {"names": []}
"""Entries that are missing in files of earlier versions, with their default values."""
