"""Preprocessing of images for a network, as described by transformers' preprocessor_config.json.

The file is read without torch, which only the preprocessing itself needs.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.networks.places import has
from sfumato.networks.tables import read_table

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

FILE = "preprocessor_config.json"
_BICUBIC = 3  # Pillow's number
#: Largest side of a network's input in pixels; published networks use at most 1024.
MOST_SIDE = 4096

Channels: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessor:
    """Converts pixels in [0, 1] to the input of an image encoder.

    Attributes:
        size: (height, width) in pixels after resizing, or the length of the shortest side.
        crop: (height, width) in pixels of the centre crop after resizing; smaller images are padded with black pixels,
            as in transformers. None for no crop.
        mean: mean of each channel.
        std: standard deviation of each channel.
    """

    size: tuple[int, int] | int
    crop: tuple[int, int] | None
    mean: Channels
    std: Channels

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Resize (antialiased bicubic, clipped to [0, 1]), crop the centre and compute (x - mean) / std in float32."""
        from torch.nn import functional as F

        x = pixels.float()
        target = self._target(x.shape[-2], x.shape[-1])
        if target != tuple(x.shape[-2:]):
            x = F.interpolate(x, target, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        if self.crop is not None:
            (top, bottom), (left, right) = map(_margins, x.shape[-2:], self.crop)
            x = F.pad(x, (left, right, top, bottom))
        mean, std = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x - mean) / std

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.size, tuple):
            return self.size
        shortest = min(height, width)
        return self.size * height // shortest, self.size * width // shortest


def _margins(side: int, cut: int) -> tuple[int, int]:
    """Pixels to add before and after `side` pixels for a centred `cut`; negative where pixels are removed."""
    before = -((side - cut) // 2)
    return before, cut - side - before


def read_preprocessor(folder: Path) -> Preprocessor:
    """Read the preprocessor of a network's folder.

    Raises:
        BadInput: preprocessor_config.json is missing, a size or statistic in it is out of range, or it describes
            another preprocessing, such as bilinear resizing.
    """
    table = _table(folder)
    for name, value in (("do_resize", True), ("resample", _BICUBIC)):
        _refuse_other(folder, table, name, value)
    size, crop = table.get("size"), table.get("crop_size")
    # Old files contain one number: the shortest side for the size, the side of a square for the crop.
    if isinstance(size, dict) and "shortest_edge" not in size:
        resized: tuple[int, int] | int = _sides(folder, "size", size)
    else:
        resized = _side(folder, "size", size["shortest_edge"] if isinstance(size, dict) else size)
    cut = None
    if table.get("do_center_crop", True) and crop:
        cut = _sides(folder, "crop_size", crop if isinstance(crop, dict) else {"height": crop, "width": crop})
    return Preprocessor(resized, cut, *_statistics(folder, table))


def read_statistics(folder: Path) -> tuple[Channels, Channels]:
    """Read the mean and the standard deviation of each channel. Raises BadInput as `read_preprocessor`."""
    return _statistics(folder, _table(folder))


def _table(folder: Path) -> dict[str, Any]:
    if not has(folder / FILE):
        raise BadInput(
            f"{printable(folder)} has no {FILE} with image_mean and image_std: give the folder of an image network "
            "in transformers' layout."
        )
    table = read_table(folder / FILE, folder)
    for name in ("do_normalize", "do_rescale"):
        _refuse_other(folder, table, name, True)
    factor = table.get("rescale_factor", 1 / 255)
    if not isinstance(factor, int | float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise BadInput(f"{printable(folder / FILE)}: rescale_factor must be 1/255: give another encoder.")
    return table


def _refuse_other(folder: Path, table: dict[str, Any], name: str, value: Any) -> None:
    """Raise BadInput if a setting is given with another value than the one that is implemented."""
    if table.get(name, value) != value:
        raise BadInput(
            f"{printable(folder / FILE)}: {name} must be {json.dumps(value)}, not {table[name]!r:.40}; images are "
            "always resized by a bicubic filter, scaled to [0, 1] and normalised: give another encoder."
        )


def _statistics(folder: Path, table: dict[str, Any]) -> tuple[Channels, Channels]:
    mean, std = (_channels(folder, name, table.get(name)) for name in ("image_mean", "image_std"))
    if min(std) <= 0:
        raise _wrong(folder, "image_std", "three numbers above 0")
    return mean, std


def _channels(folder: Path, name: str, values: Any) -> Channels:
    numbers = values if isinstance(values, list) and len(values) == 3 else []
    if not numbers or not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        raise _wrong(folder, name, "three numbers")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _sides(folder: Path, name: str, sides: dict[str, Any]) -> tuple[int, int]:
    return _side(folder, name, sides.get("height")), _side(folder, name, sides.get("width"))


def _side(folder: Path, name: str, side: Any) -> int:
    if isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MOST_SIDE:
        return side
    raise _wrong(folder, name, f"sides of 1 to {MOST_SIDE} pixels")


def _wrong(folder: Path, name: str, wanted: str) -> BadInput:
    return BadInput(f"{printable(folder / FILE)}: {name} must be {wanted}; download the folder again.")
