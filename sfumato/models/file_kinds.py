"""Kind and scheduler settings of a single weights file, determined from its tensor names and metadata."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.formats import PREFIX

UNET = "model.diffusion_model."
_FUSE = "give the model itself, and this file with --lora (in Python: lora=)"
_EMBED = "give the model itself, and this file with --textual-inversion (in Python: textual_inversion=)"
_WHOLE = "give a checkpoint of the complete model, or its diffusers folder"
#: Kind of file, advice for the user, and substrings of tensor names that occur in such files and in no checkpoint.
_OTHERS = (
    ("a LoRA, not a complete model", _FUSE,
     ("lora_up.", "lora_down.", "lora_A.", "lora_B.", "lora.up.", "lora.down.", "hada_w1_a", "lokr_w1")),
    ("a ControlNet or T2I adapter, not a complete model", "give the model itself",
     ("input_hint_block.", "controlnet_cond_embedding.", "controlnet_down_blocks.")),
    ("a transformer model (such as Flux, Stable Diffusion 3, PixArt), which cannot be used",
     "give a model with a U-Net: Stable Diffusion 1.x, 2.x or XL",
     ("double_blocks.", "joint_blocks.", "transformer_blocks.0.attn.add_k_proj", "caption_projection.")),
)  # fmt: skip
_EMBEDDINGS = ({"emb_params"}, {"clip_l", "clip_g"})
_SCHEDULED_OTHERWISE = ("edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")


def check_complete(path: Path, names: Collection[str]) -> None:
    """Check, from the names of its tensors, that a weights file is a checkpoint of a complete model.

    Args:
        path: the file, for the message.
        names: names of its tensors.

    Raises:
        BadInput: it is not; the message describes the file and the remedy.
    """
    with safe_open(path, "pt") as stored:
        stated = (stored.metadata() or {}).get("format", "")
    if stated.startswith(PREFIX):
        kind = printable(stated.split(".")[1])
        raise BadInput(
            f"{printable(path)} is a file that sfumato saved ({kind:.50}), not a model: give the model itself."
        )
    for what, remedy in _found(names):
        raise BadInput(f"{printable(path)} is {what}: {remedy}.")


def _found(names: Collection[str]) -> Iterable[tuple[str, str]]:
    for what, remedy, marks in _OTHERS:
        if _any(names, marks):
            yield what, remedy
    if set(names) in _EMBEDDINGS or any(name.startswith("<") and name.endswith(">") for name in names):
        yield "a textual inversion, an embedding of a word for a model", _EMBED
    if not names:
        yield "a safetensors file without weights", _WHOLE
    if any(name.startswith((UNET, "first_stage_model.")) for name in names):
        return
    if _any(names, ("down_blocks.",)) and _any(names, ("time_embedding.linear_1.",)):
        yield "the U-Net of a diffusers folder", "give the folder that contains it"
    elif all(name.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "loss.")) for name in names):
        yield "an autoencoder (VAE), one part of a model", _WHOLE
    elif _any(names, ("text_model.encoder.",)):
        yield "a text encoder, one part of a model", _WHOLE
    elif _any(names, ("input_blocks.",)):
        yield "a U-Net without autoencoder and text encoders", _WHOLE


def stated_schedule(path: Path, names: Collection[str]) -> dict[str, Any]:
    """Scheduler settings that a checkpoint declares in its tensor names or metadata.

    Training and merging tools mark checkpoints with empty tensors ("v_pred", "ztsnr"), or in the metadata
    ("modelspec.prediction_type", "ss_v_parameterization", "ss_zero_terminal_snr").

    Args:
        path: the checkpoint.
        names: names of its tensors.

    Returns:
        Settings as in `scheduler_config.json`; {} if the file declares none.

    Raises:
        BadInput: a schedule that cannot be used.
    """
    if any(name in names for name in _SCHEDULED_OTHERWISE):
        raise BadInput(
            f"{printable(path)} was trained with the noise levels of EDM (it contains edm_ settings), which cannot be "
            "used: give a model of the Stable Diffusion 1.x, 2.x or XL kind."
        )
    with safe_open(path, "pt") as stored:
        about: Mapping[str, str] = stored.metadata() or {}
    found: dict[str, Any] = {}
    kinds = {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon", "eps": "epsilon"}
    if kind := kinds.get(about.get("modelspec.prediction_type", "").lower()):
        found["prediction_type"] = kind
    if "v_pred" in names or about.get("ss_v_parameterization", "").lower() == "true":
        found["prediction_type"] = "v_prediction"
    if "ztsnr" in names or about.get("ss_zero_terminal_snr", "").lower() == "true":
        found |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return found


def _any(names: Collection[str], parts: Iterable[str]) -> bool:
    return any(part in name for name in names for part in parts)
