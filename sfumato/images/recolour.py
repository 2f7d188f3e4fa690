"""Replace the main colour of images while preserving their shading, in Oklab (Ottosson, 2020).

With the main colour c of an image or region, the target colour t and the share r of c in a pixel p:

    p_ab  <-  (1 - h) p_ab + h r |t_ab| u          u: the hue of p, turned by the angle from c_ab to t_ab
    p_L   <-  p_L + h r (l(p_L) - p_L)             l(p_L) = p_L t_L / c_L, or if t is lighter than c,
                                                            1 - (1 - p_L) (1 - t_L) / (1 - c_L)

r = min(|p_ab| / |c_ab|, 1); h is 1 for hues near that of c and 0 for differences of at least 60 degrees. c is thus
mapped to t, paler or darker shades of c are mapped to the same shades of t, and white, grey, black and other hues are
unchanged. If less than a third of the region has a hue, c is a grey level: then u is the hue of t, h is 1 for greys and
0 for saturated colours, and r falls from 1 at c to 0 at black and at white; if c is nearly black or white, r is 1 on
that side.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.images.oklab import from_oklab, to_oklab

COLOURED = 0.05
"""Chroma above which the hue of a pixel is used; saturated colours of sRGB have a chroma of 0.2 to 0.32."""
SHARE = 1 / 3
"""Smallest share of pixels with a hue for which the main colour is a hue rather than a grey level."""
PLAIN, NEAR = 0.6, 0.05
"""The background is plain if at least this share of the image border is within this distance of its median colour."""
HUES = (30.0, 60.0)
"""Differences from the main hue in degrees: h is 1 up to the first and 0 from the second."""
GREYS = (0.02, 0.08)
"""Chromas of a pixel if the main colour is a grey level: h is 1 up to the first and 0 from the second."""
BLACK, WHITE = 0.25, 0.85
"""A grey level counts as black up to the first lightness and as white from the second."""


@dataclass(frozen=True, eq=False)
class Recoloured:
    """One recoloured image.

    Attributes:
        pixels: the image, [3,h,w] in [-1, 1].
        share: h r, the share of the main colour in every pixel, [h,w] in [0, 1]; pixels with share 0 are unchanged.
    """

    pixels: Float[Tensor, "3 h w"]
    share: Float[Tensor, "h w"]


def recolour(
    pixels: Float[Tensor, "3 h w"], colour: Float[Tensor, " 3"], inside: Bool[Tensor, "h w"] | None = None
) -> Recoloured:
    """Replace the main colour of one image.

    Args:
        pixels: the image, sRGB in [-1, 1]; other values are clipped.
        colour: the target colour t, sRGB in [-1, 1].
        inside: region whose main colour is replaced; by default the image without a plain background, i.e. without
            pixels of the colour that covers most of its border. An empty region leaves the image unchanged.
    """
    p, t = to_oklab(pixels.clamp(-1, 1)), to_oklab(colour[:, None, None])
    region = _without_ground(p) if inside is None else inside
    if not region.any():
        return Recoloured(pixels, torch.zeros_like(pixels[0]))
    c = main_colour(p[:, region])[:, None, None]
    h, r, u = _parts(p, c, t)
    h = h * region
    darker = t[:1] < c[:1]
    lightness = torch.where(darker, p[:1] * t[:1] / c[:1], 1 - (1 - p[:1]) * (1 - t[:1]) / (1 - c[:1]))
    changed = torch.cat([p[:1] + h * r * (lightness - p[:1]), (1 - h) * p[1:] + h * r * _chroma(t) * u])
    kept = torch.where(h * r > 0, from_oklab(changed), pixels)
    return Recoloured(kept.to(pixels), (h * r).to(pixels))


def main_colour(p: Float[Tensor, "3 n"]) -> Float[Tensor, " 3"]:
    """The main colour c of pixels in Oklab: the median at the most frequent hue, weighted by chroma, or grey level."""
    chroma = _chroma(p)
    coloured = chroma > COLOURED
    if coloured.double().mean() >= SHARE:
        hues = _hue(p)
        near = coloured & (_apart(hues, _peak(hues, chroma * coloured, 360, 12.0, circular=True)) <= HUES[0])
    else:
        levels = p[0] * 100
        near = ~coloured & ((levels - _peak(levels, (~coloured).to(p), 101, 5.0, circular=False)).abs() <= 10)
    found = p[:, near].median(dim=1).values
    return torch.cat([found[:1].clamp(1e-3, 1 - 1e-3), found[1:]])


def _parts(p: Tensor, c: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """h and r [h,w], and the unit vectors u [2,h,w] of the new hue of each pixel."""
    if _chroma(c) > COLOURED:
        h = _falling(_apart(_hue(p), _hue(c)), *HUES) * (_chroma(p) > 1e-4)
        angle = torch.deg2rad(_hue(p) - _hue(c) + _hue(t))
        return h, (_chroma(p) / _chroma(c)).clamp(max=1), torch.stack([angle.cos(), angle.sin()])
    below = torch.ones_like(p[0]) if c[0] <= BLACK else p[0] / c[0]
    above = torch.ones_like(p[0]) if c[0] >= WHITE else (1 - p[0]) / (1 - c[0])
    r = torch.where(p[0] < c[0], below, above).clamp(0, 1)
    return _falling(_chroma(p), *GREYS), r, t[1:] / _chroma(t).clamp(min=1e-6)


def _without_ground(p: Float[Tensor, "3 h w"]) -> Bool[Tensor, "h w"]:
    """Mask of the pixels outside a plain background; all pixels if there is no plain background or nothing else."""
    border = torch.cat([p[:, 0], p[:, -1], p[:, :, 0], p[:, :, -1]], dim=1)
    ground = border.median(dim=1).values
    plain = (border - ground[:, None]).norm(dim=0) <= NEAR
    rest = (p - ground[:, None, None]).norm(dim=0) > NEAR
    return rest if plain.double().mean() >= PLAIN and rest.any() else torch.ones_like(rest)


def _chroma(p: Tensor) -> Tensor:
    return p[1:].norm(dim=0)


def _hue(p: Tensor) -> Tensor:
    """Hue in degrees, 0 to 360."""
    return torch.rad2deg(torch.atan2(p[2], p[1])) % 360


def _apart(hue: Tensor, other: Tensor | float) -> Tensor:
    """Difference of hues in degrees, 0 to 180."""
    return ((hue - other + 180) % 360 - 180).abs()


def _falling(x: Tensor, one: float, zero: float) -> Tensor:
    """1 up to `one`, 0 from `zero`, and a smooth transition between them."""
    s = ((zero - x) / (zero - one)).clamp(0, 1)
    return s * s * (3 - 2 * s)


def _peak(values: Tensor, weights: Tensor, bins: int, width: float, *, circular: bool) -> float:
    """The mode of weighted values: maximum of a histogram over integers smoothed by a Gaussian."""
    counts = torch.zeros(bins, dtype=weights.dtype, device=values.device)
    counts.index_add_(0, values.floor().long().clamp(0, bins - 1), weights)
    reach = round(3 * width)
    kernel = torch.exp(-((torch.arange(-reach, reach + 1, device=values.device) / width) ** 2) / 2).to(counts)
    padded = F.pad(counts[None, None], (reach, reach), mode="circular" if circular else "constant")
    return float(F.conv1d(padded, kernel[None, None]).argmax()) + 0.5
