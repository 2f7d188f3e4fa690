"""The backbones of LPIPS as feature extractors: VGG16, AlexNet and SqueezeNet 1.1.

Layers are numbered as in `features` of torchvision's networks, so that torchvision's weights, saved as safetensors,
load strictly. torchvision is not required.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sfumato.networks.image_networks import CONVOLUTIONS
from sfumato.networks.weights import read_shapes

# ImageNet mean and standard deviation for pixels in [0, 1].
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Stored = TypeVar("Stored")


class ConvNet(nn.Module):
    """Feature maps of a sequential network; images [b,3,h,w] in [-1,1] are normalised with ImageNet statistics.

    Args:
        layers: the layers in order.
        taps: indices of the layers whose output is returned.
        smallest: smallest image side in pixels for which every feature map has at least one position.
    """

    def __init__(self, layers: Sequence[nn.Module], taps: Sequence[int], smallest: int) -> None:
        super().__init__()
        self.smallest = smallest
        self.features = nn.Sequential(*layers)
        self.taps = tuple(taps)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """One feature map [b,c,h_l,w_l] for every tap."""
        x = ((x + 1) / 2 - self.mean) / self.std
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        return maps


class Fire(nn.Module):
    """Fire module: squeeze to few channels, expand by parallel 1x1 and 3x3 convolutions (Iandola et al. 2016)."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[b,channels,h,w] -> [b,2*expand,h,w]."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def vgg16() -> ConvNet:
    """VGG16 (Simonyan and Zisserman 2015, configuration D); maps after relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""
    layers: list[nn.Module] = []
    channels, taps = 3, []
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        taps.append(len(layers) - 1)
        layers.append(nn.MaxPool2d(2))
    return ConvNet(layers[:-1], taps, smallest=16)


def alexnet() -> ConvNet:
    """AlexNet (Krizhevsky 2014, one column); maps after the ReLU of each of the five convolutions."""
    layers = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for channels, width in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    return ConvNet(layers, (1, 4, 7, 9, 11), smallest=31)


def squeezenet() -> ConvNet:
    """SqueezeNet 1.1; maps after the first ReLU, before the second and third pooling and after the last four Fires."""

    def halve() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), halve(), Fire(64, 16, 64), Fire(128, 16, 64), halve()]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), halve()]
    layers += [Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
    return ConvNet(layers, (1, 4, 7, 9, 10, 11, 12), smallest=17)


_BUILDERS = (vgg16, alexnet, squeezenet)


def find_convnet(folder: Path) -> ConvNet | None:
    """Load the network whose `features.*` weights a safetensors file in the folder contains.

    Returns:
        The frozen network, or None if no file fits VGG16, AlexNet or SqueezeNet 1.1.

    Raises:
        BadInput: a file cannot be read.
    """
    for file in sorted(folder.glob("*.safetensors")):
        shapes = _feature_entries(read_shapes(file, folder))
        for build in _BUILDERS if shapes else ():
            network = build()
            if {name: tuple(weight.shape) for name, weight in network.features.state_dict().items()} == shapes:
                network.features.load_state_dict(_feature_entries(load_file(file)))
                return network.eval().requires_grad_(False)
    return None


def _feature_entries(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    return {name.removeprefix(CONVOLUTIONS): each for name, each in stored.items() if name.startswith(CONVOLUTIONS)}
