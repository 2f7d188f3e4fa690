"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598, eq. 6) as a network around a network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.schedule import Schedule
from sfumato.core.state import Denoiser


@dataclass(frozen=True, eq=False)
class Guided:
    """eps = eps(x, negative) + s (eps(x, condition) - eps(x, negative)), the pair in one call of the network.

    Where every strength is 1 the negative half cancels and is not evaluated.

    Attributes:
        network: what is guided.
        negative: the condition to move away from, one row per image; None for a network without conditions.
        strengths: s, one per image.
    """

    network: Denoiser
    negative: Any
    strengths: tuple[float, ...]

    @property
    def schedule(self) -> Schedule:
        """The schedule of the network."""
        return self.network.schedule

    @property
    def single(self) -> bool:
        """Whether one evaluation per row is enough."""
        return self.negative is None or all(s == 1 for s in self.strengths)

    def rows(self, index: Sequence[int]) -> "Guided":
        """The same guidance for other rows: image index[j] becomes row j."""
        negative = None if self.negative is None else self.negative[list(index)]
        return replace(self, negative=negative, strengths=tuple(self.strengths[j] for j in index))

    def predict(
        self,
        x: Float[Tensor, "b c h w"],
        t: int | Tensor,
        cond: Any,
        taps: Any = None,
    ) -> Float[Tensor, "b c h w"]:
        """The guided noise, in float32 where the network computes in half precision."""
        if self.single:
            return _full(self.network.predict(x, t, cond, taps))
        pair = type(cond).cat([self.negative, cond])
        both = t if isinstance(t, int) else t.repeat(2)
        negative, positive = _full(self.network.predict(x.repeat(2, 1, 1, 1), both, pair, taps)).chunk(2)
        strengths = torch.tensor(self.strengths, dtype=negative.dtype, device=negative.device).reshape(-1, 1, 1, 1)
        return negative + strengths * (positive - negative)


def _full(eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Half precision would lose the small difference of the pair's sum; float32 and float64 stay."""
    return eps.float() if eps.dtype in (torch.float16, torch.bfloat16) else eps
