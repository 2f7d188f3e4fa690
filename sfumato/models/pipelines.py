"""A DiffusionModel that shares the networks of a pipeline object of diffusers."""

import copy
from typing import Any

import torch
from accelerate.hooks import ModelHook, remove_hook_from_module
from torch import nn

from sfumato.errors import BadInput
from sfumato.models.assemble import assemble
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.index import PARTS, SUPPORTED, UNSCALED, WITHOUT_EFFECT
from sfumato.models.offload import is_offloaded

_AUTOENCODERS = ("vae", "vqvae")


def from_pipeline(pipe: Any) -> DiffusionModel:
    """The model in a pipeline object of diffusers; its networks and tokenizers are shared, not copied.

    Loaded LoRAs (fused or active, with the scales set in the pipeline) and textual inversions remain in effect. Of the
    scheduler, the training schedule and the timestep spacing are used (`sfumato.models.schedules`). The networks are
    set to evaluation mode, without gradients of their weights. The autoencoder is always evaluated in float32: one in
    half precision is copied, and the pipeline's own autoencoder is not changed. For a pipeline with
    `enable_model_cpu_offload`, the model is offloaded too, and the pipeline's hooks are replaced by those of
    `sfumato.models.offload`, which also work for the pipeline.

    Args:
        pipe: a pipeline of Stable Diffusion 1.x, 2.x or XL (text to image, image to image, inpainting,
            InstructPix2Pix), or of a network without text.

    Raises:
        BadInput: `pipe` is not a pipeline, or sfumato does not support it; the message contains the reason.
    """
    from diffusers import DiffusionPipeline  # here because importing pipelines takes seconds

    if not isinstance(pipe, DiffusionPipeline):
        raise BadInput(f"from_pipe takes a pipeline object of diffusers, not a {type(pipe).__name__}.")
    name = type(pipe).__name__
    parts = {part: _uncompiled(each) for part, each in pipe.components.items() if each is not None}
    _check_parts(name, parts)
    for part in _AUTOENCODERS:
        if part in parts:
            parts[part] = _float32(parts[part])
            if name in UNSCALED:
                parts[part] = copy.deepcopy(parts[part])
                parts[part].register_to_config(scaling_factor=1.0)
    zero = bool(pipe.config.get("force_zeros_for_empty_prompt", "text_encoder_2" in parts))
    named = str(pipe.config.get("_name_or_path") or name)
    model = assemble({p: parts[p] for p in PARTS if p in parts}, name=named, empty_prompt_is_zero=zero)
    return model.offload(model.device) if is_offloaded(model.unet) else model


def _check_parts(name: str, parts: dict[str, Any]) -> None:
    unknown = [part for part in parts if part not in (*PARTS, *WITHOUT_EFFECT)]
    if unknown or "unet" not in parts or "scheduler" not in parts:
        reason = f"it has a part {unknown[0]}" if unknown else "it has no U-Net or no scheduler"
        raise BadInput(f"A {name} cannot be used: {reason}; sfumato works with {SUPPORTED}.")
    if getattr(parts["unet"], "encoder_hid_proj", None) is not None:
        raise BadInput(f"The {name} has an IP-Adapter, which is not supported: call pipe.unload_ip_adapter() first.")
    for part in (part for part, each in parts.items() if isinstance(each, nn.Module) and part in PARTS):
        if getattr(parts[part], "hf_quantizer", None) is not None:
            raise BadInput(f"The {part} of the {name} is quantised, which is not supported: load it in fp16 or bf16.")
        if any(weight.is_meta for weight in parts[part].parameters()):
            raise BadInput(
                f"The weights of the {part} of the {name} are offloaded one layer at a time, which is not supported: "
                "use pipe.enable_model_cpu_offload() instead."
            )


def _uncompiled(part: Any) -> Any:
    """The network that torch.compile wrapped: hooks of taps do not run in compiled code."""
    return getattr(part, "_orig_mod", part)


def _float32(autoencoder: Any) -> Any:
    """The autoencoder, or its copy in float32 if it has another precision."""
    if autoencoder.dtype == torch.float32:
        return autoencoder
    # The hook of an offloaded network refers to the network that is moved before it, and so on: not to be copied.
    without_hook = {id(hook): ModelHook()} if (hook := getattr(autoencoder, "_hf_hook", None)) else {}
    copied = remove_hook_from_module(copy.deepcopy(autoencoder, without_hook))
    # nn.Module.to, because diffusers' `to` logs a warning when it changes the precision
    return nn.Module.to(copied, torch.float32)
