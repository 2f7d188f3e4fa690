"""Upsampling of an edit to the full size of its image, with the detail of the original.

The difference between the reduced image s and its edit e is enlarged. The detail of the original I that s lacks is
added with a gain K that is estimated at the reduced size:

    E = up(e) + up(K) (I - up(s)) = I + up(e - s) + up(K - 1) (I - up(s))

K = v (1 + A), where A is the 3 x 3 matrix of the guided filter (He, Sun and Tang, "Guided Image Filtering", IEEE TPAMI
35(6), 2013, with a colour guide): the linear regression of the change e - s on s in each window. Where the edit changes
colours, detail and edges therefore take the new colours. v in [0, 1] is small where the content was replaced, so that
detail of the old content does not appear: where e is not a linear function of s, where the contrast of s was removed,
or where a large change occurs without contrast in s and e. Where nothing changed, A = 0 and v = 1, so E = I exactly.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

RADIUS = 2
"""Radius of the windows of the regression, in pixels of the reduced image."""
RIDGE = 2e-3
"""Regularisation of the regression: a variance per channel of s, for pixels in [-1,1]."""
NOISE = 1e-2
"""Variance, summed over the channels, of differences that count as noise, such as those of an autoencoder."""
LARGE = 0.5
"""RMS change, for pixels in [-1,1], that counts as new content where s and e have no contrast."""
EXPLAINED = (0.5, 0.9)
"""Explained share of the variance of e: detail is removed up to the first value and kept fully from the second."""
KEPT = (0.2, 0.5)
"""Ratio of the contrasts of e and s: detail is removed up to the first value and kept fully from the second."""
LARGEST_GAIN = 3.0
"""Maximum Frobenius norm of 1 + A; that of the unit matrix is 1.7."""
BAND = 2**20
"""Number of pixels of the full size that are computed at a time."""


def upsampled_edit(
    edited: Float[Tensor, "3 h w"], source: Float[Tensor, "3 h w"], original: NDArray[np.uint8], band: int = BAND
) -> Iterator[tuple[slice, Float[Tensor, "3 rows width"]]]:
    """Yield the edit at full size in bands of rows, from the top, so that memory stays bounded.

    Args:
        edited: e, the edit at the reduced size, in about [-1,1].
        source: s, the original at the reduced size, in [-1,1].
        original: the original at full size, uint8 [height,width,3].
        band: largest number of pixels of a band; at least one row is computed.

    Yields:
        The rows of a band, and its pixels in about [-1,1].
    """
    height, width = original.shape[:2]
    change = edited - source
    fields = torch.cat([change, source, detail_gain(edited, source).flatten(0, 1)])
    across = _weights(fields.shape[-2], height)
    rows = max(1, band // width)
    for top in range(0, height, rows):
        inside = slice(top, min(height, top + rows))
        pixels = torch.from_numpy(original[inside].copy()).permute(2, 0, 1).float() / 127.5 - 1
        up = _resized(across[inside] @ fields, (pixels.shape[1], width))
        gain = up[6:].unflatten(0, (3, 3))
        yield inside, pixels + up[:3] + (gain * (pixels - up[3:6])).sum(dim=1)


def detail_gain(edited: Float[Tensor, "3 h w"], source: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 3 h w"]:
    """K - 1, the gain of the original's detail minus the identity: 0 where nothing changed, -1 where v = 0."""
    ss, es, ee = _covariance(source, source), _covariance(edited, source), _covariance(edited, edited)
    unit = torch.eye(3)
    gain = unit + torch.linalg.solve(ss + RIDGE * unit, (es - ss).mT).mT
    norm = torch.linalg.matrix_norm(gain, keepdim=True)
    gain = gain * (LARGEST_GAIN / norm.clamp(min=LARGEST_GAIN))
    gain = _certainty(gain, ss, es, ee, edited - source)[..., None, None] * gain - unit
    return _mean(gain.permute(2, 3, 0, 1).flatten(0, 1), 1).unflatten(0, (3, 3))


def _certainty(
    gain: Float[Tensor, "h w 3 3"],
    ss: Float[Tensor, "h w 3 3"],
    es: Float[Tensor, "h w 3 3"],
    ee: Float[Tensor, "h w 3 3"],
    change: Float[Tensor, "3 h w"],
) -> Float[Tensor, "h w"]:
    """v in [0, 1]: confidence that the edit shows the same content as the source, possibly in other colours."""
    explained = _trace(gain @ ss @ gain.mT)
    unexplained = _trace(ee - gain @ es.mT - es @ gain.mT + gain @ ss @ gain.mT).clamp(min=0)
    unseen = NOISE * torch.exp(-_mean(change.square(), RADIUS).mean(dim=0) / LARGE**2)
    share = (explained + unseen) / (explained + unexplained + NOISE)
    contrast = ((explained + unseen) / (_trace(ss) + NOISE)).sqrt()
    return _rising(share, *EXPLAINED) * _rising(contrast, *KEPT)


def _covariance(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w 3 3"]:
    """Covariances between the channels of a and b in the window around each pixel."""
    products = _mean((a[:, None] * b[None]).flatten(0, 1), RADIUS).unflatten(0, (3, 3))
    means = _mean(a, RADIUS)[:, None] * _mean(b, RADIUS)[None]
    return (products - means).permute(2, 3, 0, 1)


def _mean(x: Float[Tensor, "c h w"], radius: int) -> Float[Tensor, "c h w"]:
    """Mean over the window of each pixel; windows are clipped at the borders of the image."""
    return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def _trace(x: Float[Tensor, "h w 3 3"]) -> Float[Tensor, "h w"]:
    return x.diagonal(dim1=-2, dim2=-1).sum(dim=-1)


def _rising(x: Tensor, low: float, high: float) -> Tensor:
    """Smooth step: 0 up to `low`, 1 from `high`."""
    share = ((x - low) / (high - low)).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def _weights(length: int, wanted: int) -> Float[Tensor, "wanted length"]:
    """The weights with which bicubic interpolation resizes a column of `length` values to `wanted`."""
    return _resized(torch.eye(length)[None], (wanted, length))[0]


def _resized(x: Float[Tensor, "c h w"], size: tuple[int, int]) -> Float[Tensor, "c h2 w2"]:
    """Bicubic interpolation (Keys, a = -0.5) to (height, width); antialiased where it reduces."""
    return F.interpolate(x[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]
