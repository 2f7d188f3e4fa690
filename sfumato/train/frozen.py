"""The pretrained networks that a training run uses without changing them."""

import hashlib
import json
from pathlib import Path

from diffusers import AutoencoderKL, ModelMixin, VQModel
from transformers import CLIPTextModel

from sfumato.errors import BadInput
from sfumato.metrics.frozen import load_frozen
from sfumato.networks.tables import read_table
from sfumato.train.binding import weights_fingerprint

#: Values of a config that change the function of a network but not the shapes of its weights.
_FUNCTION = ("norm_num_groups", "attention_head_dim", "num_attention_heads", "act_fn", "norm_eps")
_AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}


def text_fingerprint(text: CLIPTextModel) -> str:
    """SHA-256 (hexadecimal) of a text encoder: its weights and the config values that affect its output."""
    config = text.config
    about = [config.num_attention_heads, config.hidden_act, config.layer_norm_eps, config.eos_token_id]
    return hashlib.sha256(f"{about} {weights_fingerprint(text.state_dict().items())}".encode()).hexdigest()


def refuse_other_config(built: ModelMixin, trained: ModelMixin, name: str, folder: Path | str) -> None:
    """Raise BadInput if two networks with equal weight shapes compute different functions (other groups or heads).

    Args:
        built: the network of the recipe.
        trained: the network that the weights are from.
        name: the setting of the recipe that names `folder`.
        folder: folder of `trained`.

    Raises:
        BadInput: their configs differ in a value that does not affect the shapes of the weights.
    """
    own, other = ({key: json.dumps(net.config.get(key)) for key in _FUNCTION} for net in (built, trained))
    if different := [f"{key} {other[key]}, here {own[key]}" for key in _FUNCTION if own[key] != other[key]]:
        raise BadInput(
            f"{name} = '{folder}' has the weights of another architecture ({'; '.join(different)}): give [network] the "
            f"settings that it was trained with, or leave {name} out."
        )


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
