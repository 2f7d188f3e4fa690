"""The numbers beside a result."""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato import __version__
from sfumato.geometry import Moved
from sfumato.methods.params import Params
from sfumato.metrics import DualEncoder, psnr, ssim
from sfumato.models.diffusion_model import DiffusionModel

SSIM_WINDOW = 11


def unit(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [h,w,3] as float [1,3,h,w] in [0,1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def rounded(value: float) -> float | None:
    """Four digits; None for the infinite PSNR of identical pictures, which JSON does not know."""
    return round(value, 4) if math.isfinite(value) else None


def pair_metrics(edited: Sequence[NDArray[np.uint8]], sources: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """PSNR in dB (None = identical) and SSIM (None = smaller than its window) of every edit to its source."""
    pairs = [(unit(a), unit(b)) for a, b in zip(edited, sources, strict=True)]
    large = [min(a.shape[-2:]) >= SSIM_WINDOW for a, _ in pairs]
    return {
        "edit_psnr": [rounded(float(psnr(a, b))) for a, b in pairs],
        "edit_ssim": [rounded(float(ssim(a, b))) if ok else None for (a, b), ok in zip(pairs, large, strict=True)],
    }


def reconstruction_psnr(reconstructed: Tensor, source: Tensor) -> list[float | None]:
    """PSNR in dB of pictures [b,3,h,w] in [-1,1], clipped as when they are shown."""
    a, b = ((x.clamp(-1, 1) + 1) / 2 for x in (reconstructed, source))
    return [rounded(float(value)) for value in psnr(a, b)]


def similarity(encoder: DualEncoder, pictures: Sequence[NDArray[np.uint8]], text_features: Tensor) -> list[float]:
    """Cosine of each picture with its text under the model's own dual encoder."""
    features = torch.cat([encoder.image_features(unit(each)) for each in pictures])
    return [round(float(value), 4) for value in (features * text_features).sum(dim=-1)]


def moves_of(moves: Sequence[Moved], row: int) -> dict[str, Any]:
    """What was done to one of the latents of a batch, as JSON values; nothing where nothing was moved.

    `distance` is how far x_t was moved in all, `steps` are those of shooting: the angle in radians by which the
    direction was turned, how far the bottleneck moved, and how far it would have if it were linear.
    """
    steps = [
        {name: float(f"{float(getattr(shot, name)[row]):.4g}") for name in ("angle", "length", "expected")}
        for move in moves
        for shot in move.shots
    ]
    distance = sum(float(move.distance[row]) for move in moves)
    return {"moves": {"distance": float(f"{distance:.4g}"), "steps": steps}} if moves else {}


def parameters(params: Params) -> dict[str, Any]:
    """A method's parameters as JSON values."""
    return dataclasses.asdict(params)


def made_with(network: DiffusionModel) -> dict[str, Any]:
    """What a picture was made with, for its metadata: the model by name alone, precision, kind of device, versions."""
    return {
        "model": shareable(network.name),
        "dtype": str(network.dtype).removeprefix("torch."),
        "device": network.device.type,
        "versions": {"sfumato": __version__, "torch": str(torch.__version__), "diffusers": diffusers.__version__},
    }


def shareable(name: str) -> str:
    """A model's name without the folders it lies in, which are nobody's business in a picture's metadata."""
    path = Path(name).expanduser()
    return Path(os.path.abspath(path)).name if path.exists() else name
