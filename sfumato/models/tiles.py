"""Predictions of large latents from overlapping tiles of the size that the network was trained on.

MultiDiffusion (Bar-Tal et al., arXiv 2302.08113) averages the predictions of all tiles that contain a cell. Here the
average is weighted: the weight of a tile falls linearly to its borders over the overlap, so that no seam is visible.
All tiles of a step are cut from the same latents, so the predictions of neighbouring tiles are consistent.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.batching import rows_per_call
from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.taps import AnyTap

OVERLAP = 0.25
"""Smallest overlap of neighbouring tiles, as a fraction of the tile's side."""
NO_TAPS = "tiles do not support methods that read or replace features or attention maps: use edit-friendly, or no tiles"


class TiledModel(DiffusionModel):
    """A view of a `DiffusionModel` that evaluates latents larger than the training images in overlapping tiles.

    Latents that fit into one tile are evaluated as usual. Taps are not supported and raise BadInput.
    """

    @classmethod
    def of(cls, model: DiffusionModel) -> "TiledModel":
        """A tiled view of `model`, which shares its networks and its count of evaluations."""
        tiled = copy.copy(model)
        tiled.__class__ = cls
        assert isinstance(tiled, cls)
        return tiled

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a tile in latent cells."""
        height, width = self.native_size
        return height // self.factor, width // self.factor

    def predict(
        self,
        x: Float[Tensor, "b c h w"],
        t: int | Tensor,
        cond: Condition | None = None,
        taps: Sequence[AnyTap] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """As `DiffusionModel.predict`: the weighted mean of the predictions of all tiles.

        Raises:
            BadInput: as `DiffusionModel.predict`, or taps are given.
        """
        if taps:
            raise BadInput(f"{NO_TAPS}.")
        x = x.to(self.device)
        places = list(self._places(x.shape[-2:]))
        if len(places) == 1:
            return super().predict(x, t, cond)
        height, width = (min(side, size) for side, size in zip(self.tile, x.shape[-2:], strict=True))
        weight = _ramp(height).to(x.device)[:, None] * _ramp(width).to(x.device)
        total, norm = x.new_zeros(x.shape, dtype=torch.float32), x.new_zeros(x.shape[-2:], dtype=torch.float32)
        together = max(1, rows_per_call(x.shape[1], height, width) // len(x))
        for first in range(0, len(places), together):
            part = places[first : first + together]
            rows = torch.cat([x[..., top : top + height, left : left + width] for top, left in part])
            every = t if isinstance(t, int) else t.repeat(len(part))
            found = super().predict(rows, every, None if cond is None else _cut(cond, part, height, width))
            for (top, left), eps in zip(part, found.chunk(len(part)), strict=True):
                inside = (..., slice(top, top + height), slice(left, left + width))
                total[inside] += weight * eps
                norm[inside] += weight
        return total / norm

    def read(self, x: Tensor, t: int | Tensor, cond: Condition | None, taps: Sequence[AnyTap]) -> None:
        """Not supported: always raises BadInput."""
        raise BadInput(f"{NO_TAPS}.")

    def _places(self, size: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Top and left cell of every tile of latents of this height and width."""
        tops, lefts = (_starts(length, side) for length, side in zip(size, self.tile, strict=True))
        return ((top, left) for top in tops for left in lefts)


def _cut(cond: Condition, places: Sequence[tuple[int, int]], height: int, width: int) -> Condition:
    """The condition of tiles of `height` x `width` cells at these places (top, left): all rows for every tile."""
    every, maps = cond.repeat(len(places)), cond.maps
    if maps is None:
        return every
    return replace(every, maps=torch.cat([maps[..., y : y + height, x : x + width] for y, x in places]))


def _starts(length: int, side: int) -> list[int]:
    """The first cells of tiles of `side` cells that cover `length` cells, evenly spaced."""
    if length <= side:
        return [0]
    count = 1 - -(length - side) // max(1, int(side * (1 - OVERLAP)))
    return [round(n * (length - side) / (count - 1)) for n in range(count)]


def _ramp(side: int) -> Float[Tensor, " side"]:
    """Weights along one side of a tile: 1 in the middle, falling linearly over the overlap to the borders."""
    distance = torch.minimum(torch.arange(side), torch.arange(side - 1, -1, -1)) + 1.0
    return (distance / max(1.0, OVERLAP * side)).clamp(max=1)
