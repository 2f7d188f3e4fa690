"""Single-file checkpoints in the layout of the original Stable Diffusion repositories."""

from pathlib import Path

import torch

from sfumato.errors import BadInput
from sfumato.libraries import quiet
from sfumato.models.assemble import assemble
from sfumato.models.bundled import read_settings
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.folder import read_index, readable

PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")


def load_single_file(
    path: Path, config: Path | None, *, name: str, device: torch.device, dtype: torch.dtype
) -> DiffusionModel:
    """The model in one .safetensors file.

    Args:
        path: the checkpoint.
        config: a local diffusers folder of the same architecture; its configurations and tokenizers are used, its
            weights are not.
        name: what messages call the model.
        device: where it goes.
        dtype: the network's precision.

    Raises:
        BadInput: a pickle, no such file, no config, or a checkpoint that does not fit it.
    """
    if path.suffix in PICKLES:
        raise BadInput(f"{path} is a pickle, which can run code when opened; convert it to .safetensors.")
    if not path.is_file():
        raise BadInput(f"There is no file {path}; give the path of a .safetensors file.")
    if config is None:
        raise BadInput(
            f"{path} holds weights only; give config= the diffusers folder of a model of the same architecture."
        )
    index = read_index(config)
    absent = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"))
    with readable(f"{path} does not fit {config}"), quiet():
        # importing pipelines takes seconds, and nothing else here needs them
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        pipeline = StableDiffusionXLPipeline if "text_encoder_2" in index else StableDiffusionPipeline
        parts = pipeline.from_single_file(
            str(path), config=str(config), local_files_only=True, dtype=torch.float32, **absent
        ).components
    zero = bool(index.get("force_zeros_for_empty_prompt", "text_encoder_2" in index))
    return assemble(parts, name=name, settings=read_settings(config), empty_prompt_is_zero=zero).to(device, dtype)
