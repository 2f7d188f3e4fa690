"""Which frequencies a latent, a direction or a change of x_0 is made of (arXiv 2302.12469, editing timing).

Frequencies are in cycles per pixel (or per latent position), the same along both axes whatever the shape: 0 to
sqrt(1/2), of which 0.5 is the finest along an axis.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.step import wide
from sfumato.errors import BadInput


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Power by frequency, radially averaged.

    Attributes:
        frequency: centre of each ring, cycles per pixel, [rings].
        density: mean power of the frequencies of a ring, [b,rings].
        count: frequencies in each ring, all channels together, [rings]; 0 where a small image has none.
        radius: every frequency's distance from 0, cycles per pixel, [cells].
        power: of every frequency, all channels together, [b,cells].
    """

    frequency: Float[Tensor, " rings"]
    density: Float[Tensor, "b rings"]
    count: Float[Tensor, " rings"]
    radius: Float[Tensor, " cells"]
    power: Float[Tensor, "b cells"]

    @property
    def total(self) -> Float[Tensor, " b"]:
        """The power of all frequencies: sum |x|^2 (Parseval)."""
        return self.power.sum(dim=1)

    def share_below(self, frequency: float) -> Float[Tensor, " b"]:
        """Share of the power of frequencies below a frequency, whatever ring they are in; 0 to 1."""
        return self.power[:, self.radius < frequency].sum(dim=1) / self.total


def power_spectrum(x: Float[Tensor, "b c h w"], rings: int | None = None) -> Spectrum:
    """The power spectral density of images of any shape; the mean over channels of |F|^2, F unitary.

    Args:
        x: images.
        rings: of equal width; by default one per period that fits the shorter side, both signs together.

    Raises:
        BadInput: fewer than one ring.
    """
    height, width = x.shape[-2:]
    rings = max(1, min(height, width) // 2) if rings is None else rings
    if rings < 1:
        raise BadInput(f"A spectrum has at least 1 ring, not {rings}.")
    power = torch.fft.fft2(wide(x), norm="ortho").abs().square().sum(dim=1).flatten(1)
    rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64, device="cpu") for side in (height, width))
    radius = torch.hypot(rows[:, None], columns[None, :]).flatten()
    highest = 0.5**0.5
    ring = (radius / highest * rings).long().clamp(max=rings - 1).to(x.device)
    count = torch.zeros(rings, dtype=power.dtype, device=x.device).index_add(0, ring, torch.ones_like(power[0]))
    total = torch.zeros(len(x), rings, dtype=power.dtype, device=x.device).index_add(1, ring, power)
    centres = (torch.arange(rings, dtype=power.dtype, device=x.device) + 0.5) * highest / rings
    channels = x.shape[1]
    density = total / (count * channels).clamp_min(1)
    return Spectrum(centres, density, count * channels, radius.to(x.device), power)
