"""Presence of objects: 1 - max A, the loss of Attend-and-Excite (Chefer et al., arXiv 2301.13826, section 3).

The authors' code computes the softmax over all tokens of the context except the first and the last one, including
padding, and smooths the maps with the kernel exp(-(x / (2 s))^2), s = 0.5 cells: a Gaussian of standard deviation
sqrt(2) s. Of a prompt in several chunks, the first and the last token of every chunk are excluded.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.rows import TARGET
from sfumato.core.state import StepState
from sfumato.models.attention import Layers, RecordMaps
from sfumato.shifts.energy.maps import note_coarse
from sfumato.shifts.energy.term import Measurement

TEMPERATURE = 100.0
"""Factor of the maps before the softmax over tokens."""
DEVIATION = 0.5
"""Standard deviation of the Gaussian filter, in cells."""
PUBLISHED_DEVIATION = 0.5**0.5
"""Standard deviation of the filter in the authors' code, in cells."""


@dataclass(frozen=True, eq=False)
class Presence:
    """1 - the maximum attention to each object.

    The maps are averaged over layers and heads and normalised by a softmax over tokens. Then the maps of the tokens of
    each object are averaged and smoothed, and the maximum is taken. The loss of Attend-and-Excite is obtained with
    `worst`, `PUBLISHED_DEVIATION`, and the softmax over all tokens except the first and the last one, or over those of
    the text (`normalize_eot`).

    Attributes:
        layers: cross-attention layers of the same resolution.
        grid: height and width of their feature maps.
        words: token weights of each object, [b, tokens], with the sum 1.
        over: 1 for tokens over which the softmax is computed, 0 for all others, [b, tokens].
        worst: whether to return the maximum loss over all objects, as in Attend-and-Excite, instead of the mean.
        deviation: standard deviation of the Gaussian filter, in cells.
    """

    layers: Layers
    grid: tuple[int, int]
    words: tuple[Float[Tensor, "b n"], ...]
    over: Float[Tensor, "b n"]
    worst: bool = True
    deviation: float = DEVIATION

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """Return the term for one step; see `Term.measure`."""
        note_coarse(self.grid)
        recorded = RecordMaps(self.layers, TARGET)

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            A = torch.stack([_full(maps).mean(dim=1) for maps in recorded.maps.values()]).mean(dim=0)
            A = (TEMPERATURE * A).masked_fill(self.over.to(A)[:, None] == 0, -torch.inf).softmax(dim=-1)
            each = [1 - smoothed(self._map(A, word), self.deviation).amax(dim=(1, 2, 3)) for word in self.words]
            return torch.stack(each).amax(dim=0) if self.worst else torch.stack(each).mean(dim=0)

        return Measurement(value, (recorded,))

    def _map(self, A: Float[Tensor, "b q n"], word: Float[Tensor, "b n"]) -> Float[Tensor, "b 1 h w"]:
        return (A @ word.to(A)[:, :, None]).transpose(1, 2).unflatten(2, self.grid)


def _full(maps: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Convert half precision to float32."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def smoothed(A: Float[Tensor, "b 1 h w"], deviation: float = DEVIATION) -> Float[Tensor, "b 1 h w"]:
    """Gaussian filter of 3 x 3 cells; borders are reflected where possible.

    Args:
        A: maps.
        deviation: standard deviation in cells.
    """
    offsets = torch.arange(-1, 2, dtype=A.dtype, device=A.device)
    line = torch.exp(-offsets.square() / (2 * deviation**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    mode = "reflect" if min(A.shape[-2:]) > 1 else "replicate"
    return F.conv2d(F.pad(A, (1, 1, 1, 1), mode=mode), kernel[None, None])
