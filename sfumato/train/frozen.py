"""Loading the trained networks that a training run builds on and leaves as they are."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from transformers import CLIPTextModel

from sfumato.errors import BadInput
from sfumato.libraries import quiet
from sfumato.models.folder import readable
from sfumato.train.binding import weights_fingerprint

_AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}


def load_frozen(kind: type[Any], folder: Path) -> Any:
    """A network of diffusers or transformers from its local folder, float32, in evaluation mode, without gradients.

    Raises:
        BadInput: it cannot be read, is pickled, or lacks weights (the libraries would fill the gaps at random).
    """
    dtype = "torch_dtype" if kind in _AUTOENCODERS.values() else "dtype"
    with readable(f"{folder} cannot be read as a {kind.__name__}"), quiet():
        network, found = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **{dtype: torch.float32}
        )
    if missing := sorted(found["missing_keys"]):
        raise BadInput(f"{folder} is no {kind.__name__}: it lacks {len(missing)} weights, among them {missing[0]}.")
    return network.eval().requires_grad_(False)


def text_fingerprint(text: CLIPTextModel) -> str:
    """SHA-256, in hexadecimal, of a text encoder: its weights, and what of its config changes what they compute."""
    config = text.config
    about = [config.num_attention_heads, config.hidden_act, config.layer_norm_eps, config.eos_token_id]
    return hashlib.sha256(f"{about} {weights_fingerprint(text.state_dict().items())}".encode()).hexdigest()


def load_autoencoder(folder: Path) -> AutoencoderKL | VQModel:
    """The frozen autoencoder in a folder, of the class that its config.json names.

    Raises:
        BadInput: the folder holds another kind of network.
    """
    try:
        name = json.loads((folder / "config.json").read_text()).get("_class_name")
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder}/config.json cannot be read: {error}.") from error
    if name not in _AUTOENCODERS:
        raise BadInput(f"{folder} holds a {name}; a diffusion model is trained on an AutoencoderKL or a VQModel.")
    return load_frozen(_AUTOENCODERS[name], folder)
