"""Pixelwise metrics of two images of the same size: MSE, PSNR, SSIM.

In all functions, a and b are images [b, c, h, w] in [0, 1]; a mask [h, w] or [b, h, w] in [0, 1] weights the pixels;
the result is one float64 value per image. Computations are in float64.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.metrics.checks import Mask, check_pair, mask_weights, weighted_mean

# Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
# similarity", IEEE TIP 2004, section III-C: window, and K1, K2 for the dynamic range L = 1.
WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


def mse(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], mask: Mask = None) -> Float[Tensor, " b"]:
    """Mean squared error over channels and pixels, 0 for equal images.

    Raises:
        BadInput: the shapes differ, values are outside [0, 1], or the mask is empty.
        NonFinite: an image contains NaN or infinity.
    """
    check_pair(a, b)
    a, b = a.double(), b.double()
    return weighted_mean(((a - b) ** 2).mean(dim=1), mask_weights(mask, a))


def psnr(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], mask: Mask = None) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio -10 log10(MSE) in dB, for peak value 1; infinite for equal images.

    Raises BadInput and NonFinite as `mse`.
    """
    return -10 * torch.log10(mse(a, b, mask))


def ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], mask: Mask = None) -> Float[Tensor, " b"]:
    """Structural similarity (SSIM) in [-1, 1], 1 for equal images; the mean over channels and windows.

    Windows lie completely inside the image, as in the authors' code. Each window is weighted by the mask at its centre.

    Raises:
        BadInput: as `mse`, or the images are smaller than one window of 11 x 11 pixels.
        NonFinite: as `mse`.
    """
    check_pair(a, b)
    a, b = a.double(), b.double()
    height, width = a.shape[-2:]
    if min(height, width) < WINDOW:
        raise BadInput(f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels, not {width} x {height}.")
    edge = WINDOW // 2
    centres = mask_weights(mask, a)[:, edge : height - edge, edge : width - edge]
    return weighted_mean(ssim_map(a, b).mean(dim=1), centres)


def ssim_map(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """SSIM by equation 13 of Wang et al., for every window inside the image: h2 = h - 10, w2 = w - 10."""
    mu_a, mu_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mu_a**2
    var_b = _blur(b * b) - mu_b**2
    cov = _blur(a * b) - mu_a * mu_b
    numerator = (2 * mu_a * mu_b + C1) * (2 * cov + C2)
    return numerator / ((mu_a**2 + mu_b**2 + C1) * (var_a + var_b + C2))


def _blur(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Mean over each window, weighted by a separable Gaussian of `SIGMA` pixels that sums to 1."""
    offset = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weight = torch.exp(-(offset**2) / (2 * SIGMA**2))
    weight = weight / weight.sum()
    flat = x.flatten(0, 1)[:, None]
    blurred = F.conv2d(F.conv2d(flat, weight[None, None, :, None]), weight[None, None, None, :])
    return blurred.unflatten(0, x.shape[:2])[:, :, 0]
