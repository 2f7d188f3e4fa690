"""The perceptual loss: how far apart two pictures are in the features of a frozen network.

    d(x, y) = mean over stages l of  mean over places p of  |f_l(x)_p / |f_l(x)_p| - f_l(y)_p / |f_l(y)_p||^2

This is LPIPS (Zhang et al., CVPR 2018, equation 1) without its learned channel weights, on another network: a term lies
between 0 and 4. Where LPIPS has VGG, this has an EfficientNet-Lite0 trained on ImageNet, or the image tower of a dual
encoder in a local folder, our own or any CLIP in transformers' layout. Nothing is ever downloaded.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel

from sfumato.errors import BadInput
from sfumato.train.efficientnet_lite import load_efficientnet_lite0
from sfumato.train.frozen import load_frozen

EFFICIENTNET = "efficientnet-lite0"


class VisionTower(nn.Module):
    """The image tower of a dual encoder: the hidden states of every block, the class token left out.

    Pictures are resized to the size that the tower was trained at, so that what it cannot see is not judged.

    Raises:
        BadInput: the folder holds no such tower.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            table = json.loads((folder / "preprocessor_config.json").read_text())
            mean, std = torch.tensor(table["image_mean"]), torch.tensor(table["image_std"])
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(
                f"{folder} has no preprocessor_config.json with image_mean and image_std; loss.perceptual_network must "
                f"be '{EFFICIENTNET}' or the folder of a dual encoder."
            ) from error
        self.tower = load_frozen(CLIPVisionModel, folder)
        self.side: int = self.tower.config.image_size
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[b,3,h,w] in [-1,1] -> one map [b,width,tokens] for each block."""
        if x.shape[-2:] != (self.side, self.side):
            x = F.interpolate(x, (self.side, self.side), mode="bicubic", antialias=True, align_corners=False)
        states = self.tower(((x + 1) / 2 - self.mean) / self.std, output_hidden_states=True).hidden_states
        return [state[:, 1:].mT for state in states[1:]]


class PerceptualDistance(nn.Module):
    """d(x, y) for pictures [b,3,h,w] in [-1,1]; the network is frozen, the gradient flows into the pictures.

    Args:
        network: pictures -> feature maps [b,c,...], from fine to coarse.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance of each pair, float32 [b], from 0 to 4; both halves go through the network in one call."""
        terms = []
        for both in self.network(torch.cat([x, y.to(x.dtype)])):
            f_x, f_y = F.normalize(both.float().flatten(2), dim=1).chunk(2)
            terms.append((f_x - f_y).square().sum(1).mean(1))
        return torch.stack(terms).mean(0)


def load_perceptual(network: str) -> PerceptualDistance:
    """The distance in the features of `network`: "efficientnet-lite0" or a local folder with a dual encoder.

    Raises:
        BadInput: the ImageNet weights are not installed, or the folder holds no dual encoder.
    """
    if network == EFFICIENTNET:
        return PerceptualDistance(load_efficientnet_lite0())
    if not Path(network, "config.json").is_file():
        raise BadInput(
            f"loss.perceptual_network must be '{EFFICIENTNET}' or a folder with a dual encoder, and {network!r} "
            "is neither."
        )
    return PerceptualDistance(VisionTower(Path(network)))
