"""Changes of the key and value projections of cross-attention, for tokens that are not embeddings of a text.

    K_l = (W_k + dW_k) tokens,    V_l = (W_v + dW_v) tokens        in every cross-attention layer l

Only these weights of a U-Net are trained, as in Custom Diffusion (Kumari et al., CVPR 2023, arXiv 2212.04488). The
changes are stored apart from the U-Net and belong to the condition that contains the tokens, so that evaluations under
other conditions are not affected.
"""

from collections.abc import Mapping

import torch
from torch import nn

from sfumato.models.attention import Layers

_PARTS = ("to_k", "to_v")


class KeyValueChanges(nn.Module):
    """The changes dW_k and dW_v of all cross-attention layers; zero at first.

    Attributes:
        layers: width of the keys and values of each layer, by name.
        weights: dW_k and dW_v of every layer in turn, [inner, width] each.

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
        return {name: int(layer.inner_kv_dim) for name, layer in Layers(cross=True).of(unet)}

    @property
    def by_name(self) -> dict[str, nn.Parameter]:
        """dW [inner, width] by the name of the changed layer, for `Condition.weight_changes`."""
        names = [f"{name}.{part}" for name in self.layers for part in _PARTS]
        return dict(zip(names, self.weights, strict=True))
