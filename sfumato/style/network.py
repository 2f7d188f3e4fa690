"""The network of the style encoder A: statistics of the features of every stage of a small convolutional network.

    F_l = conv_l(silu(norm(F_{l-1})))
    a = W_2 silu(W_1 standardised([p(x), mu(F_1), sigma(F_1), ..., mu(F_L), sigma(F_L)]))

mu and sigma are the mean and standard deviation over the positions, per channel, as in ALADIN (Ruta et al., ICCV 2021,
arXiv 2103.09776, section 3). They do not depend on the positions of features, so the layout of the content has little
influence. They are computed before the normalisation, which would remove a part of the style information.

The palette p(x) is a histogram of colours; drawings of one content in different styles differ mainly in their colours.
The statistics are standardised over training images (`StyleNetwork.standardise`), because their variation between
images is small compared with their means.
"""

from itertools import pairwise, product

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8
"""Groups of the group normalisation; the numbers of channels are multiples of it."""
BINS = 8
"""Bins of the palette per colour channel."""
_EPS = 1e-5
_LEAST = 1e-3
"""Constant added to the standard deviations of the statistics, for colours that rarely occur."""
_GAIN = 0.1
"""Initial factor of the feature statistics, whose changes in the first steps would otherwise dominate the palette."""


class StyleNetwork(nn.Module):
    """Descriptors of images, not normalised.

    Args:
        channels: channels of the stages; every stage after the first halves the resolution.
        dimension: dimension d of the descriptor.
    """

    def __init__(self, channels: tuple[int, ...], dimension: int) -> None:
        super().__init__()
        self.channels, self.dimension = channels, dimension
        self.convs = nn.ModuleList([nn.Conv2d(3, channels[0], 3, padding=1)])
        self.norms = nn.ModuleList()
        for before, after in pairwise(channels):
            self.norms.append(nn.GroupNorm(GROUPS, before))
            self.convs.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
        width = BINS**3 + 2 * sum(channels)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.gain = nn.Parameter(torch.full((2 * sum(channels),), _GAIN))
        self.project = nn.Sequential(nn.Linear(width, 2 * dimension), nn.SiLU(), nn.Linear(2 * dimension, dimension))

    @torch.no_grad()
    def standardise(self, x: Float[Tensor, "b 3 h w"]) -> None:
        """Set the mean and standard deviation of the statistics from these images in [-1, 1], at least two."""
        found = self.statistics(x)
        self.mean.copy_(found.mean(0))
        self.deviation.copy_(found.std(0) + _LEAST)

    def statistics(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """The palette, then mu and sigma of all stages, for images in [-1, 1]."""
        features = self.convs[0](x)
        found = [palette(x), moments(features)]
        for norm, conv in zip(self.norms, list(self.convs)[1:], strict=True):
            features = conv(F.silu(norm(features)))
            found.append(moments(features))
        return torch.cat(found, dim=1)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Descriptors, not normalised, of images in [-1, 1]."""
        standardised = (self.statistics(x) - self.mean) / self.deviation
        return self.project(torch.cat([standardised[:, : BINS**3], self.gain * standardised[:, BINS**3 :]], dim=1))


def moments(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
    """Mean and standard deviation over the positions of every channel, [b, 2 c]."""
    flat = features.flatten(2).float()
    mean = flat.mean(2, keepdim=True)
    return torch.cat([mean[..., 0], ((flat - mean).square().mean(2) + _EPS).sqrt()], dim=1)


def palette(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
    """Square roots of the shares of the pixels in `BINS`^3 colour bins, [b, BINS^3], for images in [-1, 1].

    A pixel belongs to the eight nearest bins with trilinear weights, so that the palette is differentiable. A NaN
    pixel makes the palette of its image NaN.
    """
    at = (x.flatten(2).float().clamp(-1, 1) + 1) / 2 * (BINS - 1)
    low = at.detach().floor().clamp(max=BINS - 2).nan_to_num(0)
    upper = at - low
    found = x.new_zeros(len(x), BINS**3, dtype=torch.float32)
    for corner in product((0, 1), repeat=3):
        weights = [upper[:, c] if high else 1 - upper[:, c] for c, high in enumerate(corner)]
        bins = [low[:, c].long() + high for c, high in enumerate(corner)]
        found = found.scatter_add(1, (bins[0] * BINS + bins[1]) * BINS + bins[2], weights[0] * weights[1] * weights[2])
    return (found / at.shape[2] + _EPS).sqrt()
