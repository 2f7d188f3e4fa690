"""Metrics and metadata of results."""

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
from sfumato.core.shift import Shift
from sfumato.geometry import Moved
from sfumato.metrics import DualEncoder, psnr, ssim
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.options.files import files_of_options, replaced
from sfumato.options.params import Params

SSIM_WINDOW = 11


def unit(pixels: NDArray[np.uint8]) -> Tensor:
    """Convert pixels, uint8 [h,w,3], to float [1,3,h,w] in [0,1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def rounded(value: float) -> float | None:
    """Round to four decimals; None for infinity (PSNR of identical images), which JSON cannot represent."""
    return round(value, 4) if math.isfinite(value) else None


def pair_metrics(edited: Sequence[NDArray[np.uint8]], sources: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """Compute PSNR in dB (None if identical) and SSIM (None if a side is below 11 pixels) of edits and sources."""
    pairs = [(unit(a), unit(b)) for a, b in zip(edited, sources, strict=True)]
    large = [min(a.shape[-2:]) >= SSIM_WINDOW for a, _ in pairs]
    return {
        "edit_psnr": [rounded(float(psnr(a, b))) for a, b in pairs],
        "edit_ssim": [rounded(float(ssim(a, b))) if ok else None for (a, b), ok in zip(pairs, large, strict=True)],
    }


def reconstruction_psnr(reconstructed: Tensor, source: Tensor) -> list[float | None]:
    """Compute the PSNR in dB of images [b,3,h,w] in [-1,1], after clipping; None if identical."""
    a, b = ((x.clamp(-1, 1) + 1) / 2 for x in (reconstructed, source))
    return [rounded(float(value)) for value in psnr(a, b)]


def similarity(encoder: DualEncoder, images: Sequence[NDArray[np.uint8]], text_features: Tensor) -> list[float]:
    """Compute the cosine similarity between each image and its text by the model's dual encoder.

    Args:
        encoder: the dual encoder.
        images: the images, uint8 [h,w,3].
        text_features: unit features of one text per image, [b,d].
    """
    features = torch.cat([encoder.image_features(unit(each)) for each in images])
    return [round(float(value), 4) for value in (features * text_features).sum(dim=-1)]


def moves_of(moves: Sequence[Moved], row: int) -> dict[str, Any]:
    """Describe the changes of one latent of a batch by geodesic shooting, as JSON values; {} if there are none.

    `distance` is the total distance |x_t' - x_t|. Each of `steps` contains the `angle` in radians between consecutive
    directions, the `length` of the change of the bottleneck, and the `expected` length if the map were linear.

    Args:
        moves: recorded changes of the batch.
        row: row of the latent.
    """
    steps = [
        {name: float(f"{float(getattr(shot, name)[row]):.4g}") for name in ("angle", "length", "expected")}
        for move in moves
        for shot in move.shots
    ]
    distance = sum(float(move.distance[row]) for move in moves)
    return {"moves": {"distance": float(f"{distance:.4g}"), "steps": steps}} if moves else {}


def parameters(params: Params) -> dict[str, Any]:
    """Return the parameters of a method as JSON values."""
    return dataclasses.asdict(params)


def recipe_parameters(params: Params) -> dict[str, Any]:
    """Return the parameters of a method for recipes: as `parameters`, with file names instead of paths."""
    names = {option: {path: file_name(path) for path in paths} for option, paths in files_of_options(params).items()}
    return {n: replaced(each, names[n]) if n in names else each for n, each in parameters(params).items()}


def described_shift(shift: Shift) -> dict[str, Any]:
    """Describe a shift of the caller by its class and, if it is a dataclass, its plain fields, as JSON values.

    Plain values are numbers, strings, booleans, None, and tuples and lists of these; other fields are left out.
    """
    own: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(shift) if dataclasses.is_dataclass(shift) else ()
    values = {each.name: getattr(shift, each.name) for each in own if each.init}
    plain = {name: _without_folders(value) for name, value in values.items() if _is_plain(value)}
    return {"shift": type(shift).__qualname__} | ({"fields": plain} if plain else {})


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a string, a boolean, None, or a tuple or list of such values."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _without_folders(value: Any) -> Any:
    """A plain value with the names of files in place of absolute paths, as recipes do not disclose folders."""
    if isinstance(value, (tuple, list)):
        return list(map(_without_folders, value))
    return file_name(value) if isinstance(value, str) and Path(value).is_absolute() else value


def files_used(*used: Params) -> dict[str, Any]:
    """Return options, names and hashes of the files in parameters; {} without files.

    They have the form {"files": [{"option": ..., "name": ..., "sha256": ...}]}, without "option" for files that do not
    belong to one option. The hash of a folder is the hash of the lines "HASH  NAME" of its files, sorted by name, as
    printed by `sha256sum *`. The hashes are those of `Params.hashes`, i.e. of the content that was read.
    """
    named: dict[tuple[str | None, str], str] = {}
    for params in used:
        options = files_of_options(params)
        owned = {path for paths in options.values() for path in paths}
        read = params.hashes
        named |= {(option, path): read[path] for option, paths in options.items() for path in paths if path in read}
        named |= {(None, path): sha256 for path, sha256 in read.items() if path not in owned}
    found = [
        ({} if option is None else {"option": option}) | {"name": file_name(path), "sha256": sha256}
        for (option, path), sha256 in named.items()
    ]
    return {"files": found} if found else {}


def file_name(path: str) -> str:
    """Return the name of a file without its folders, so that metadata of images does not disclose paths."""
    return Path(path).name


def made_with(network: DiffusionModel) -> dict[str, Any]:
    """Return metadata of an image: model name without folders, fingerprint, precision, device type and versions."""
    return {
        "model": shareable(network.name),
        "model_fingerprint": network.fingerprint(),
        **network.additions,
        "dtype": str(network.dtype).removeprefix("torch."),
        "device": network.device.type,
        "versions": {"sfumato": __version__, "torch": str(torch.__version__), "diffusers": diffusers.__version__},
    }


def shareable(name: str) -> str:
    """Return a model's name without its parent folders, so that metadata of images does not disclose paths."""
    path = Path(name).expanduser()
    return Path(os.path.abspath(path)).name if path.exists() else name
