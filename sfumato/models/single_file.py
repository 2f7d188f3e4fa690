"""Single-file checkpoints in the layout of the original Stable Diffusion repositories."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from sfumato.errors import BadInput
from sfumato.libraries import quiet
from sfumato.models.assemble import assemble
from sfumato.models.bundled import read_settings
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.folder import NETWORKS, Index, load_part, read_index
from sfumato.networks.load import readable, write_settings
from sfumato.networks.weights import Weights, single_file_weights

TEXT = ("text_encoder", "text_encoder_2")
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
    if not path.exists():
        raise BadInput(f"There is no file {path}; give the path of a .safetensors file.")
    if config is None:
        raise BadInput(
            f"{path} holds weights only; give config= the diffusers folder of a model of the same architecture."
        )
    index, weights = read_index(config), single_file_weights(path)
    ready = {part: load_part(config, part, kind, dtype) for part, kind in index.kinds.items() if part not in NETWORKS}
    absent = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"))
    with readable(f"{path} does not fit {config}"), quiet(), _staged(config, index, weights) as clean:
        # importing pipelines takes seconds, and nothing else here needs them
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
        from diffusers.loaders.single_file_utils import SingleFileComponentError

        pipeline = StableDiffusionXLPipeline if "text_encoder_2" in index.kinds else StableDiffusionPipeline
        try:
            parts = pipeline.from_single_file(
                str(path), config=str(clean), local_files_only=True, dtype=torch.float32, **absent, **ready
            ).components
        except (SingleFileComponentError, NotImplementedError) as error:  # no weights of a part; some of them missing
            raise _incomplete(path, config, clean) from error
        if any(weight.is_meta for part in TEXT if part in parts for weight in parts[part].parameters()):
            raise _incomplete(path, config, clean)
    zero, settings = index.empty_prompt_is_zero, read_settings(config)
    return assemble(parts, name=name, settings=settings, empty_prompt_is_zero=zero).to(device, dtype)


@contextmanager
def _staged(config: Path, index: Index, weights: Weights) -> Iterator[Path]:
    """A folder of our own with the settings of the networks, looked at, and an index that names our classes alone."""
    with tempfile.TemporaryDirectory(prefix="sfumato-") as name:
        entries: dict[str, list[str]] = {}
        for part, kind in index.kinds.items():
            if part in NETWORKS:
                network = NETWORKS[part][kind]
                write_settings(network, config / part, config, weights, Path(name) / part)
                entries[part] = [network.__module__.split(".")[0], kind]
        (Path(name) / "model_index.json").write_text(json.dumps(entries), encoding="utf-8")
        yield Path(name)


def _incomplete(path: Path, config: Path, clean: Path) -> BadInput:
    """What to say about a checkpoint in which weights are missing: the first part that cannot be loaded alone."""
    part = "text encoder"
    for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        try:
            kind.from_single_file(
                str(path), config=str(clean), subfolder=name, local_files_only=True, dtype=torch.float32
            )
        except Exception:  # whatever is wrong with it, this is the part
            part = {"unet": "U-Net", "vae": "autoencoder"}[name]
            break
    return BadInput(
        f"{path} does not fit {config}: its {part} is missing or incomplete; give a checkpoint that holds the U-Net, "
        "the autoencoder and every text encoder, or make a diffusers folder of the parts."
    )
