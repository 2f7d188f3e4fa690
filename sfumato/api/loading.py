"""Loading a model by name."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from sfumato.api.model import Model
from sfumato.models.added_files import GivenInversion, GivenLora
from sfumato.models.load import list_models, load_model
from sfumato.paths import path_text


def load(
    name: str | os.PathLike[str],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    lora: GivenLora | Sequence[GivenLora] = (),
    textual_inversion: GivenInversion | Sequence[GivenInversion] = (),
    prompt_weights: bool = False,
    prompt_chunks: int = 1,
    offload: bool = False,
) -> Model:
    """Load a model from its bundled name, a local folder, a hub id or a single .safetensors file.

    Args:
        name: e.g. "emoji", "/models/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5".
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; by default CUDA if available, otherwise the CPU.
        dtype: precision of the network: "fp32" (default), "bf16" or "fp16". Latents are always float32.
        config: for a single file, the diffusers folder of a model of the same architecture; not required for Stable
            Diffusion 1.x, 2.x and XL.
        lora: one or several LoRAs, each a .safetensors file, "FILE:SCALE" or (file, scale); they are fused into the
            weights.
        textual_inversion: one or several embeddings, each a .safetensors file or "FILE:WORD".
        prompt_weights: whether "(word:1.4)" in prompts is interpreted as the weight of a word, from 0 to 10.
        prompt_chunks: number of chunks of 75 tokens into which prompts are split, 1 to 20.
        offload: keep the weights in main memory, and move those of each network to the GPU only while it is evaluated.

    Returns:
        The model, with the network in evaluation mode.

    Raises:
        BadInput: the model, a file, the device or the precision does not exist, the model is not supported, or a LoRA
            or textual inversion does not fit the model.
    """
    name = path_text(name, "A model must be a bundled name, a path or a hub id")
    network = load_model(
        name,
        device,
        dtype,
        config=None if config is None else path_text(config, "config must be the path of a diffusers folder"),
        lora=lora,
        textual_inversion=textual_inversion,
        prompt_weights=prompt_weights,
        prompt_chunks=prompt_chunks,
        offload=offload,
    )
    bundled = {model.name: model.folder for model in list_models()}
    return Model(network, bundled.get(name, Path(name).expanduser()))
