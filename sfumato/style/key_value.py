"""Changes of the key and value projections of cross-attention, for tokens that are not embeddings of a text.

    K_l = (W_k + dW_k) tokens,    V_l = (W_v + dW_v) tokens        in every cross-attention layer l

Only these weights of a U-Net are trained, as in Custom Diffusion (Kumari et al., CVPR 2023, arXiv 2212.04488). The
changes are stored apart from the U-Net and are used only in evaluations under the tokens, so that the evaluations of
other prompts are not affected.
"""

from collections.abc import Mapping

import torch
from torch import nn

from sfumato.models.attention import Layers
from sfumato.models.taps import AddProjection

CROSS = Layers(cross=True)
_PARTS = ("to_k", "to_v")


class KeyValueUpdates(nn.Module):
    """The changes dW_k and dW_v of all cross-attention layers; zero at first.

    Args:
        layers: width of the keys and values of each layer, by the name of the layer in the U-Net.
        width: width of the tokens.
    """

    def __init__(self, layers: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.layers = dict(layers)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(inner, width)) for inner in self.layers.values() for _ in _PARTS
        )

    @staticmethod
    def layers_of(unet: nn.Module) -> dict[str, int]:
        """Width of the keys and values of the cross-attention layers of a U-Net, by name."""
        return {name: int(layer.inner_kv_dim) for name, layer in CROSS.of(unet)}

    def tap(self) -> AddProjection:
        """The tap that adds dW x to the keys and values."""
        names = [f"{name}.{part}" for name in self.layers for part in _PARTS]
        return AddProjection(dict(zip(names, self.weights, strict=True)))
