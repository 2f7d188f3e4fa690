"""LPIPS: distance of two images in the features of a frozen network (Zhang et al., CVPR 2018, equation 1).

    d(x, y) = sum over layers l of  mean over positions p of  sum over channels c of
              w_lc (f_l(x)_pc / |f_l(x)_p| - f_l(y)_pc / |f_l(y)_p|)^2

With the features of VGG, AlexNet or SqueezeNet *and* the authors' learned channel weights w_lc, this is LPIPS 0.1 and
comparable with published numbers. Without learned weights, every w_lc is 1 / (number of layers), so that d lies between
0 and 4; up to that factor this is the authors' baseline "lpips=False". Other networks (EfficientNet-Lite0 trained on
ImageNet, or a vision transformer such as the image encoder of the bundled dual encoder) rank images similarly, but on
different scales: compare only distances from the same network.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.metrics.checks import Mask, check_pair, mask_weights, weighted_mean
from sfumato.metrics.convnets import find_convnet
from sfumato.metrics.efficientnet_lite import load_efficientnet_lite0
from sfumato.metrics.frozen import local_folder
from sfumato.metrics.vision import VisionEncoder
from sfumato.networks.image_networks import EFFICIENTNET, check_perceptual_config, perceptual_folder
from sfumato.networks.places import has
from sfumato.networks.weights import read_shapes

#: File of the learned weights in the network's folder; tensor names as in the authors' files ("lin0.model.1.weight").
LEARNED = "lpips.safetensors"


class PerceptualDistance(nn.Module):
    """LPIPS distance d(x, y) of images [b,3,h,w] in [-1,1]; differentiable with respect to the images.

    Args:
        network: frozen network, images -> feature maps [b,c,h_l,w_l], from fine to coarse.
        weights: channel weights w_l of each map, float [c], at least 0; by default 1 / (number of maps).
        smallest: smallest image side in pixels that the network accepts.
    """

    def __init__(self, network: nn.Module, weights: Sequence[Tensor] | None = None, smallest: int = 1) -> None:
        super().__init__()
        self.network, self.smallest = network, smallest
        self.learned = weights is not None
        for stage, weight in enumerate(weights or ()):
            self.register_buffer(f"weight_{stage}", weight.float()[:, None, None], persistent=False)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The distance of each pair, float32 [b].

        Args:
            x: images [b,3,h,w] in [-1,1].
            y: images of the same shape.
            weight: pixel weights [b,h,w]; a position of a feature map has the mean weight of the pixels it covers.

        Raises:
            BadInput: a side of the images has fewer than `smallest` pixels.
        """
        if min(x.shape[-2:]) < self.smallest:
            height, width = x.shape[-2:]
            raise BadInput(f"this LPIPS network needs at least {self.smallest} pixels a side, not {height} x {width}.")
        maps = self.network(torch.cat([x, y.to(x.dtype)]))
        terms = []
        for stage, both in enumerate(maps):
            f_x, f_y = F.normalize(both.float(), dim=1).chunk(2)
            w = getattr(self, f"weight_{stage}") if self.learned else 1 / len(maps)
            squares = (w * (f_x - f_y).square()).sum(1)
            terms.append(squares.mean((1, 2)) if weight is None else _masked_mean(weight, squares))
        return torch.stack(terms).sum(0)


def _masked_mean(weight: Tensor, values: Tensor) -> Tensor:
    """Mean [b] of a map [b,h_l,w_l], each position weighted by the mean of weight [b,h,w] over its pixels."""
    covered = F.adaptive_avg_pool2d(weight[:, None].float(), values.shape[1:])[:, 0]
    return weighted_mean(values, covered)


@torch.no_grad()
def lpips(distance: PerceptualDistance, a: Tensor, b: Tensor, mask: Mask = None) -> Tensor:
    """LPIPS of two batches of images, 0 for equal images; lower is more similar.

    Args:
        distance: the LPIPS network.
        a: images [b, 3, h, w] in [0, 1].
        b: images of the same shape.
        mask: [h, w] or [b, h, w] in [0, 1]; weights the positions of the feature maps, whose receptive fields can
            extend beyond the mask.

    Returns:
        float64 [b]; NaN for images that are too small for the network (AlexNet needs 31 pixels a side, SqueezeNet 17,
        VGG 16).

    Raises:
        BadInput: as `mse`.
        NonFinite: as `mse`.
    """
    check_pair(a, b)
    if min(a.shape[-2:]) < distance.smallest:
        return torch.full((len(a),), torch.nan, dtype=torch.float64, device=a.device)
    place = next(distance.network.parameters())
    weight = None if mask is None else mask_weights(mask, a).to(place)
    return distance(2 * a.to(place) - 1, 2 * b.to(place) - 1, weight).to(a.device).double()


def load_perceptual(network: str) -> PerceptualDistance:
    """Load an LPIPS network.

    Args:
        network: "efficientnet-lite0"; or a local folder (or hub id) with a vision transformer in transformers' layout,
            or with the safetensors of torchvision's VGG16, AlexNet or SqueezeNet 1.1. Learned weights are read from
            `lpips.safetensors` in the folder, if it exists.

    Raises:
        BadInput: the ImageNet weights are not installed, or the folder contains no such network.
    """
    if network == EFFICIENTNET:
        return PerceptualDistance(load_efficientnet_lite0())
    folder = perceptual_folder(network) or local_folder(network)
    found = find_convnet(folder)
    if found is not None:
        return PerceptualDistance(found, _learned(folder, found), found.smallest)
    check_perceptual_config(folder)
    encoder = VisionEncoder(folder)
    return PerceptualDistance(encoder, _learned(folder, encoder))


def _learned(folder: Path, network: nn.Module) -> list[Tensor] | None:
    """The learned weights of every layer from `lpips.safetensors`; None without that file. Raises BadInput."""
    file = folder / LEARNED
    if not has(file):
        return None
    with torch.no_grad():
        channels = [each.shape[1] for each in network(torch.zeros(1, 3, 64, 64))]
    names = [f"lin{stage}.model.1.weight" for stage in range(len(channels))]
    shapes = read_shapes(file, folder)
    if {name: math.prod(shape) for name, shape in shapes.items()} == dict(zip(names, channels, strict=True)):
        stored = load_file(file)
        weights = [stored[name].flatten() for name in names]
        if all((each >= 0).all() for each in weights):
            return weights
    raise BadInput(f"{file} must contain {names[0]} ... {names[-1]} with {channels} values of at least 0.")
