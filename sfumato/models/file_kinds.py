"""Kind and scheduler settings of a single weights file, determined from its tensor names and metadata."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.formats import PREFIX

UNET = "model.diffusion_model."
AUTOENCODER = ("first_stage_model.", "vae.")
_FUSE = "give the model itself, and this file with --lora (in Python: lora=)"
_EMBED = "give the model itself, and this file with --textual-inversion (in Python: textual_inversion=)"
_WHOLE = "give a checkpoint of the complete model, or its diffusers folder"
_UNUSABLE = "cannot be used: give the model itself"
_LORA = re.compile(r"lora_up\.|lora_down\.|lora_A\.|lora_B\.|lora\.up\.|lora\.down\.|hada_w1_a|lokr_w1")
#: Kind of file with advice for the user, and a pattern of names of tensors in such files that no checkpoint contains.
_OTHERS = (
    ("a LoRA, not a complete model: " + _FUSE, _LORA),
    ("a ControlNet or T2I adapter, not a complete model: give the model itself",
     re.compile(r"input_hint_block\.|controlnet_cond_embedding\.|controlnet_down_blocks\.")),
    (f"an IP-Adapter, which lets a model read images and {_UNUSABLE}",
     re.compile(r"^ip_adapter\.|^image_proj\.|\.to_k_ip\.")),
    (f"a motion module, which lets a model make videos and {_UNUSABLE}", re.compile(r"motion_modules?\.")),
    (f"a hypernetwork, which changes a model and {_UNUSABLE}",
     re.compile(r"hypernet|^(?:320|640|768|1024|1280)\.\d\.")),
    ("an upscaler (such as ESRGAN), not a diffusion model: give a model that generates images",
     re.compile(r"^model\.\d+\.|^conv_first\.|\brdb1\.conv1\.", re.IGNORECASE)),
    ("a transformer model (such as Flux, Stable Diffusion 3, PixArt), which cannot be used: "
     "give a model with a U-Net: Stable Diffusion 1.x, 2.x or XL",
     re.compile(r"double_blocks\.|joint_blocks\.|transformer_blocks\.0\.attn\.add_k_proj|caption_projection\.")),
)  # fmt: skip
#: Prefixes of the other parts of a complete model, and of the weights of an autoencoder in a file of its own.
_BESIDE = (*AUTOENCODER, "cond_stage_model.", "conditioner.")
_VAE = (*AUTOENCODER, "encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "loss.")
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
    with safe_open(path, "np") as stored:
        stated = (stored.metadata() or {}).get("format", "")
    if stated.startswith(PREFIX):
        kind = printable(stated.split(".")[1])
        raise BadInput(
            f"{printable(path)} is a file that sfumato saved ({kind:.50}), not a model: give the model itself."
        )
    for what in _found(names):
        raise BadInput(f"{printable(path)} is {what}.")


def _found(names: Collection[str]) -> Iterator[str]:
    """Descriptions of a file that is no complete model, each with the remedy after a colon."""
    unet = any(name.startswith(UNET) for name in names)
    others = any(name.startswith(_BESIDE) for name in names)
    lora = [name for name in names if _LORA.search(name)]
    if unet and others and lora:
        yield (
            f"a complete model with weights of a LoRA beside it ({lora[0]:.100}), which would be left out: fuse them "
            "with the tool that wrote the file, or save them as a file of their own"
        )
    yield from (what for what, pattern in _OTHERS if any(pattern.search(name) for name in names))
    if set(names) in _EMBEDDINGS or any(name.startswith("<") and name.endswith(">") for name in names):
        yield f"a textual inversion, an embedding of a word for a model: {_EMBED}"
    if not names:
        yield f"a safetensors file without weights: {_WHOLE}"
    if all(name.startswith(_VAE) for name in names):
        yield f"an autoencoder (VAE), one part of a model: {_WHOLE}"
    if others and not unet:
        yield f"a checkpoint whose U-Net is missing: {_WHOLE}"
    if others:
        return
    if _any(names, ("down_blocks.",)) and _any(names, ("time_embedding.linear_1.",)):
        yield "the U-Net of a diffusers folder: give the folder that contains it"
    if _any(names, ("text_model.encoder.", ".SelfAttention.")):
        yield f"a text encoder, one part of a model: {_WHOLE}"
    if _any(names, ("input_blocks.",)):
        yield f"a U-Net without autoencoder and text encoders: {_WHOLE}"
    yield f"not a checkpoint of a Stable Diffusion, whose U-Net has weights named {UNET}*: {_WHOLE}"


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
    with safe_open(path, "np") as stored:
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
