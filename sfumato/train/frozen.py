"""The pretrained networks that a training run uses without changing them."""

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
    """SHA-256 (hexadecimal) of a text encoder: its weights and the config values that affect its output."""
    config = text.config
    about = [config.num_attention_heads, config.hidden_act, config.layer_norm_eps, config.eos_token_id]
    return hashlib.sha256(f"{about} {weights_fingerprint(text.state_dict().items())}".encode()).hexdigest()


def load_autoencoder(folder: Path) -> AutoencoderKL | VQModel:
    """Load the frozen autoencoder in a folder.

    Returns:
        An instance of the class that `_class_name` in its config.json names.

    Raises:
        BadInput: the folder contains another kind of network.
    """
    name = read_table(folder / "config.json", folder).get("_class_name")
    if not isinstance(name, str) or name not in _AUTOENCODERS:
        raise BadInput(f"{folder} contains a {name}; name the folder of an AutoencoderKL or a VQModel.")
    return load_frozen(_AUTOENCODERS[name], folder)
