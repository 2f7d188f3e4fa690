"""The implementation of attention in networks that are trained."""

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import PreTrainedModel


def use_fastest_attention(network: UNet2DConditionModel | PreTrainedModel, device: torch.device | str) -> None:
    """On the CPU, compute the attention of `network` with plain matrix products; on other devices change nothing.

    On the CPU the backward pass of PyTorch's fused attention takes several times as long as that of plain matrix
    products. Inference is not affected: the implementation is not part of the saved configuration.
    """
    if torch.device(device).type != "cpu":
        return
    if isinstance(network, PreTrainedModel):
        network.set_attn_implementation("eager")
    else:
        network.set_attn_processor(AttnProcessor())
