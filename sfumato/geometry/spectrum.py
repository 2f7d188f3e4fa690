"""Power spectra of latents, directions or changes of x_0, for the choice of the edited timestep (arXiv 2302.12469).

Frequencies are in cycles per pixel (or per latent position), with the same scale along both axes for all image shapes.
They range from 0 to sqrt(1/2); 0.5 is the Nyquist frequency along one axis.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.step import to_float64
from sfumato.errors import BadInput


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Power by frequency, radially averaged.

    Attributes:
        frequency: centre of each ring, cycles per pixel, [rings].
        density: mean power of the frequencies in each ring, [b,rings].
        count: number of frequencies in each ring, summed over channels, [rings]; 0 for empty rings of small images.
        radius: magnitude of every frequency, cycles per pixel, [cells]; float64, on the CPU.
        power: power of every frequency, summed over channels, [b,cells].
    """

    frequency: Float[Tensor, " rings"]
    density: Float[Tensor, "b rings"]
    count: Float[Tensor, " rings"]
    radius: Float[Tensor, " cells"]
    power: Float[Tensor, "b cells"]

    @property
    def total(self) -> Float[Tensor, " b"]:
        """Power of all frequencies, equal to sum |x|^2 (Parseval's theorem)."""
        return self.power.sum(dim=1)

    def share_below(self, frequency: float) -> Float[Tensor, " b"]:
        """Return the fraction of the power at frequencies below `frequency` (cycles per pixel), without binning."""
        below = (self.radius < frequency).to(self.power.device)
        return self.power[:, below].sum(dim=1) / self.total


def power_spectrum(x: Float[Tensor, "b c h w"], rings: int | None = None) -> Spectrum:
    """Compute the power spectral density: the mean of |F|^2 over channels and rings, with the unitary DFT F.

    Args:
        x: images or latents of any height and width.
        rings: number of rings, all of equal width; by default half the number of pixels of the shorter side.

    Raises:
        BadInput: rings is below 1.
    """
    height, width = x.shape[-2:]
    rings = max(1, min(height, width) // 2) if rings is None else rings
    if rings < 1:
        raise BadInput(f"A spectrum needs at least 1 ring, not {rings}.")
    power = torch.fft.fft2(to_float64(x), norm="ortho").abs().square().sum(dim=1).flatten(1)
    rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64, device="cpu") for side in (height, width))
    radius = torch.hypot(rows[:, None], columns[None, :]).flatten()
    highest = 0.5**0.5
    ring = (radius / highest * rings).long().clamp(max=rings - 1).to(x.device)
    count = torch.zeros(rings, dtype=power.dtype, device=x.device).index_add(0, ring, torch.ones_like(power[0]))
    total = torch.zeros(len(x), rings, dtype=power.dtype, device=x.device).index_add(1, ring, power)
    centres = (torch.arange(rings, dtype=power.dtype, device=x.device) + 0.5) * highest / rings
    channels = x.shape[1]
    density = total / (count * channels).clamp_min(1)
    return Spectrum(centres, density, count * channels, radius, power)
