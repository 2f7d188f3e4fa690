"""Random augmentations of images: translations and zooms, crops, which preserve the style, and colour changes, which
preserve the content.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def jitter(pixels: Tensor, generator: torch.Generator, shift: float, zoom: float) -> Tensor:
    """Translate and scale each image at random; pixels from outside repeat the border.

    Args:
        pixels: float [n,3,h,w].
        generator: a CPU generator.
        shift: largest translation, as a fraction of the side.
        zoom: largest relative change of size.

    Returns:
        The augmented images, of the shape and on the device of `pixels`.
    """
    # affine_grid maps output to input coordinates in [-1,1], so an offset of 2 is one side.
    n = len(pixels)
    scale = 1 + zoom * (2 * torch.rand(n, generator=generator) - 1)
    offset = 2 * shift * (2 * torch.rand(n, 2, generator=generator) - 1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = offset
    grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def crops(x: Float[Tensor, "n 3 h w"], generator: torch.Generator, least: float) -> Float[Tensor, "n 3 h w"]:
    """A random square crop of every image, scaled to the size of the image, mirrored with probability 1/2.

    Args:
        x: images.
        generator: a CPU generator.
        least: smallest side of a crop, as a share of the side of the image, in (0, 1].
    """
    n = len(x)
    side = least + (1 - least) * torch.rand(n, generator=generator)
    centre = (1 - side)[:, None] * (2 * torch.rand(n, 2, generator=generator) - 1)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * mirror, side, centre
    grid = F.affine_grid(theta.to(x.device), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def recoloured(x: Float[Tensor, "n 3 h w"], generator: torch.Generator, amount: float) -> Float[Tensor, "n 3 h w"]:
    """Mix the colour channels of every image at random without changing its grey values.

    x' = (1 - amount u) x + amount u grey(x) + amount N (x - grey(x)), with u uniform in [0, 1] and N a 3 x 3 matrix of
    standard normal numbers minus the means of its columns. The channels of N (x - grey(x)) then have mean 0, so the
    grey value (the mean of the channels) is preserved. The result is clipped to [-1, 1].

    Args:
        x: images in [-1, 1].
        generator: a CPU generator.
        amount: 0 changes nothing, 1 changes colours completely.
    """
    n = len(x)
    grey = x.mean(1, keepdim=True).expand_as(x)
    share = amount * torch.rand(n, 1, 1, 1, generator=generator).to(x.device)
    matrix = torch.randn(n, 3, 3, generator=generator).to(x.device)
    mixed = torch.einsum("nij,njhw->nihw", matrix - matrix.mean(1, keepdim=True), x - grey)
    return ((1 - share) * x + share * grey + amount * mixed).clamp(-1, 1)
