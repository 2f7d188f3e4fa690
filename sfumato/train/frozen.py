"""The trained networks that a training run builds on and leaves as they are."""

import hashlib
from pathlib import Path

from diffusers import AutoencoderKL, VQModel
from transformers import CLIPTextModel

from sfumato.errors import BadInput
from sfumato.metrics.frozen import load_frozen
from sfumato.networks.configs import read_table
from sfumato.train.binding import weights_fingerprint

_AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}


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
    name = read_table(folder / "config.json", folder).get("_class_name")
    if not isinstance(name, str) or name not in _AUTOENCODERS:
        raise BadInput(f"{folder} holds a {name}; a diffusion model is trained on an AutoencoderKL or a VQModel.")
    return load_frozen(_AUTOENCODERS[name], folder)
