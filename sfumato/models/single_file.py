"""Single-file checkpoints in the layout of the original Stable Diffusion repositories."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from sfumato.core.noise import gaussian
from sfumato.errors import BadInput
from sfumato.libraries import quiet
from sfumato.models.assemble import assemble
from sfumato.models.bundled import read_settings
from sfumato.models.converted import CLIP, converted_shapes
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.folder import NETWORKS, load_part
from sfumato.models.index import Index, read_index
from sfumato.models.model_files import find_architecture, read_checkpoint
from sfumato.models.schedules import with_settings
from sfumato.networks.differences import Differences, compare
from sfumato.networks.load import CONFIG, readable, write_settings
from sfumato.networks.weights import Weights

#: Side of the latents of Stable Diffusion 2.x with v-prediction, 768 pixels; the other models have 512.
SIDE_OF_V = 96
_WORDS = {"unet": "U-Net", "vae": "autoencoder", "vqvae": "autoencoder"}
_FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"
_POSITIONS = "embeddings.position_embedding.weight"


def load_single_file(
    path: Path, config: Path | None, *, name: str, device: torch.device, dtype: torch.dtype
) -> DiffusionModel:
    """Load the model in one .safetensors file.

    Args:
        path: the checkpoint.
        config: a local diffusers folder of the same architecture, of which the configurations and tokenizers are used;
            not necessary for the published architectures (`sfumato.architectures`). The number of input channels of the
            checkpoint takes precedence, and so do the prediction type and zero terminal SNR if the checkpoint declares
            them (`sfumato.models.file_kinds.stated_schedule`).
        name: name of the model in messages.
        device: device of the model.
        dtype: precision of the network.

    Raises:
        BadInput: the file is not a checkpoint of a complete model, `config` is missing for an architecture that is not
            built in, or the checkpoint does not fit `config`.
    """
    weights, stated = read_checkpoint(path)
    if config is not None:
        return _load(path, config, str(config), weights, stated, name, dtype).to(device, dtype)
    architecture = find_architecture(path, weights)
    with architecture.staged() as folder:
        words = f"the architecture of {architecture.words}"
        model = _load(path, folder, words, weights, stated, name, dtype).to(device, dtype)
        if architecture.name == "sd2" and "prediction_type" not in stated and predicts_v(model):
            stated |= {"prediction_type": "v_prediction"}
            model = _load(path, folder, words, weights, stated, name, dtype).to(device, dtype)
        if model.schedule.prediction_type == "v_prediction" and architecture.name == "sd2":
            model.unet.register_to_config(sample_size=SIDE_OF_V)
    return model


@torch.no_grad()
def predicts_v(model: DiffusionModel) -> bool:
    """Whether a network predicts the velocity rather than the noise, from one evaluation at the last timestep.

    At that timestep x_t is nearly pure noise. The output of a noise-predicting network has a correlation near 1 with
    x_t; the velocity is nearly -x_0, which is independent of x_t. Stable Diffusion 2.x checkpoints do not declare their
    prediction type.
    """
    t, side = len(model.schedule) - 1, 4 * model.latent_multiple
    x = gaussian((model.latent_channels, side, side), 0, tag="prediction type", device=model.device)[None]
    maps = x.new_zeros(1, model.map_channels, side, side) if model.map_channels else None
    output = model.predict(x, t, model.condition("", maps=maps))
    return float(torch.corrcoef(torch.stack([x.flatten(), output.flatten().to(x)]))[0, 1]) < 0.5


def _load(
    path: Path,
    config: Path,
    words: str,
    weights: Weights,
    stated: Mapping[str, Any],
    name: str,
    dtype: torch.dtype,
) -> DiffusionModel:
    """Load the model with the configurations in a folder, which messages call `words`."""
    index = read_index(config)
    ready = {part: load_part(config, part, kind, dtype) for part, kind in index.kinds.items() if part not in NETWORKS}
    ready |= {"scheduler": with_settings(ready["scheduler"], stated)} if stated else {}
    absent = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"))
    with readable(f"{path} does not fit {words}"), quiet(), _staged(config, index, weights) as (clean, networks):
        for part, network in networks.items():
            _check_part(path, words, part, compare(network, converted_shapes(part, network, weights.shapes)))
        ready |= _text_encoder_of_other_names(path, index, weights, clean)
        # imported here because importing pipelines takes seconds
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        pipeline = StableDiffusionXLPipeline if "text_encoder_2" in index.kinds else StableDiffusionPipeline
        parts = pipeline.from_single_file(
            str(path), config=str(clean), local_files_only=True, dtype=torch.float32, **absent, **ready
        ).components
    zero, settings = index.empty_prompt_is_zero, read_settings(config)
    return assemble(parts, name=name, settings=settings, empty_prompt_is_zero=zero)


def _check_part(path: Path, words: str, part: str, found: Differences) -> None:
    """Raise BadInput if the weights of a part are not those of its configuration in the folder called `words`."""
    part_words = _WORDS.get(part, "text encoder")
    if found.missing and not found.reshaped and not found.unexpected:
        raise BadInput(
            f"{path} does not fit {words}: its {part_words} is missing or incomplete (it lacks "
            f"{found.missing[0]:.200}); give a checkpoint that contains the U-Net, the autoencoder and all text "
            "encoders, or make a diffusers folder of the parts."
        )
    if found.clause:
        raise BadInput(
            f"{path} does not fit {words} ({part}/{CONFIG}): in the {part_words}, {found.clause}; give --config (in "
            "Python: config=) with the diffusers folder of a model of the same architecture."
        )


def _text_encoder_of_other_names(path: Path, index: Index, weights: Weights, clean: Path) -> dict[str, Any]:
    """Load the first text encoder of a checkpoint whose weight names lack "text_model.", which diffusers expects.

    Such names occur, for example, if a CLIPTextModel of transformers 5.6 or later was saved under the original prefix.
    Returns the text encoder by the name of its part; {} if the names are the original ones.
    """
    prefix = next((each for each in CLIP if f"{each}{_POSITIONS}" in weights.shapes), None)
    if prefix is None or "text_encoder" not in index.kinds:
        return {}
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    with safe_open(path, "pt") as stored:
        names = [name for name in weights.shapes if name.startswith(prefix)]
        renamed = {name.replace(prefix, f"{prefix}text_model.", 1): stored.get_tensor(name) for name in names}
    kind, settings = NETWORKS["text_encoder"][index.kinds["text_encoder"]], str(clean)
    encoder = create_diffusers_clip_model_from_ldm(
        kind, renamed, subfolder="text_encoder", config=settings, torch_dtype=torch.float32, local_files_only=True
    )
    return {"text_encoder": encoder}


@contextmanager
def _staged(config: Path, index: Index, weights: Weights) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A temporary folder with the validated configurations and an index of supported classes, and the empty networks.

    The number of input channels of the U-Net is that of the weights: inpainting and InstructPix2Pix models differ from
    others only in it.
    """
    shape = weights.shapes.get(_FIRST_CONVOLUTION, ())
    channels = {"in_channels": shape[1]} if len(shape) == 4 else {}
    with tempfile.TemporaryDirectory(prefix="sfumato-") as name:
        networks: dict[str, Any] = {}
        entries: dict[str, list[str]] = {}
        for part, kind in index.kinds.items():
            if part in NETWORKS:
                network, changes = NETWORKS[part][kind], channels if part == "unet" else {}
                networks[part] = write_settings(network, config / part, config, weights, Path(name) / part, changes)
                entries[part] = [network.__module__.split(".")[0], kind]
        (Path(name) / "model_index.json").write_text(json.dumps(entries), encoding="utf-8")
        yield Path(name), networks
