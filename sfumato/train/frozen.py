"""Loading the trained networks that a training run builds on and leaves as they are."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from transformers import CLIPTextModel

from sfumato.errors import BadInput
from sfumato.networks.configs import read_table
from sfumato.networks.load import load_network
from sfumato.train.binding import weights_fingerprint

_AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}


def load_frozen(kind: type[Any], folder: Path) -> Any:
    """A network of diffusers or transformers from its local folder, float32, in evaluation mode, without gradients.

    Raises:
        BadInput: it cannot be read, is pickled, or lacks weights (the libraries would fill the gaps at random).
    """
    return load_network(kind, folder, dtype=torch.float32).eval().requires_grad_(False)


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
