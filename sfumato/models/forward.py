"""One forward pass of a diffusers U-Net under a condition, in training as in inference."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from sfumato.core.condition import Condition


def forward(unet: Any, x: Tensor, t: int | Tensor, cond: Condition) -> Tensor:
    """The output of the network in its own precision: the predicted noise, v or x_0.

    Args:
        unet: UNet2DConditionModel or UNet2DModel, whose precision everything is converted to.
        x: latents x_t, [rows,c,h,w], on the device of the network.
        t: timestep, one int for all rows or a tensor [rows].
        cond: condition, one row per latent.
    """
    dtype = unet.dtype
    sample = (x if cond.maps is None else torch.cat([x, cond.maps.to(x)], dim=1)).to(dtype)
    timestep = t if isinstance(t, int) else t.to(x.device)
    labels = cond.labels
    if labels is not None:
        # vectors are multiplied with weights and need their dtype; indices and timesteps keep their own
        labels = labels.to(x.device, dtype if labels.ndim > 1 else labels.dtype)
    if not isinstance(unet, UNet2DConditionModel):
        output: Tensor = unet(sample, timestep, class_labels=labels, return_dict=False)[0]
        return output
    output = unet(
        sample,
        timestep,
        encoder_hidden_states=None if cond.tokens is None else cond.tokens.to(dtype),
        class_labels=labels,
        encoder_attention_mask=cond.token_mask,
        added_cond_kwargs=None if cond.pooled is None else {"text_embeds": cond.pooled, "time_ids": cond.added},
        return_dict=False,
    )[0]
    return output
