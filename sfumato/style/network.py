"""The network of the style encoder A: statistics of the features of every stage of a small convolutional network.

    F_l = conv_l(silu(norm(F_{l-1}))),   a = W_2 silu(W_1 norm([mu(F_1), sigma(F_1), ..., mu(F_L), sigma(F_L)]))

mu and sigma are the mean and standard deviation over the positions, per channel, as in ALADIN (Ruta et al., ICCV 2021,
arXiv 2103.09776, section 3). They do not depend on where a feature occurs, so that the arrangement of the content has
little influence. They are taken before the normalisation, which would remove a part of the style.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8
"""Groups of the group normalisation; the numbers of channels are multiples of it."""
_EPS = 1e-5


class StyleNetwork(nn.Module):
    """Descriptors of images, not normalised.

    Args:
        channels: channels of the stages; every stage after the first halves the resolution.
        dimension: of the descriptor.
    """

    def __init__(self, channels: tuple[int, ...], dimension: int) -> None:
        super().__init__()
        self.channels, self.dimension = channels, dimension
        self.convs = nn.ModuleList([nn.Conv2d(3, channels[0], 3, padding=1)])
        self.norms = nn.ModuleList()
        for before, after in pairwise(channels):
            self.norms.append(nn.GroupNorm(GROUPS, before))
            self.convs.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
        width = 2 * sum(channels)
        self.project = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * dimension), nn.SiLU(), nn.Linear(2 * dimension, dimension)
        )

    def statistics(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """mu and sigma of all stages, concatenated, for images in [-1, 1]."""
        features = self.convs[0](x)
        found = [moments(features)]
        for norm, conv in zip(self.norms, list(self.convs)[1:], strict=True):
            features = conv(F.silu(norm(features)))
            found.append(moments(features))
        return torch.cat(found, dim=1)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Descriptors, not normalised, of images in [-1, 1]."""
        return self.project(self.statistics(x))


def moments(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
    """Mean and standard deviation over the positions of every channel, [b, 2 c]."""
    flat = features.flatten(2).float()
    return torch.cat([flat.mean(2), (flat.var(2, unbiased=False) + _EPS).sqrt()], dim=1)
