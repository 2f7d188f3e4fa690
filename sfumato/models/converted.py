"""Names and shapes of the weights of a single-file checkpoint, as diffusers converts them; no weights are read."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.models.file_kinds import AUTOENCODER, UNET

#: The number of a level in the names of the weights of an autoencoder.
_LEVEL = re.compile(r"\.(?:down|up)\.(\d+)\.")
#: Prefixes of the weights of a text encoder: CLIP's in Stable Diffusion 1.x and XL, OpenCLIP's in 2.x and XL.
CLIP = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
_OPEN_CLIP = {"text_encoder": "cond_stage_model.model.", "text_encoder_2": "conditioner.embedders.1.model."}
_TEXT = "text_model."
#: The weights that embed class labels or, in XL, sizes.
_LABELS = [f"{UNET}label_emb.0.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")]


def converted_shapes(part: str, network: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights of one part of a checkpoint, by their names in diffusers and transformers.

    Args:
        part: "unet", "vae", "text_encoder" or "text_encoder_2".
        network: the network of this part, on the meta device.
        shapes: shape of every tensor of the checkpoint, by name.

    Returns:
        Shapes by name; U-Net weights that diffusers would leave out have their original names. {} if the checkpoint
        lacks the part.
    """
    file = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    if part == "unet":
        found = _unet(network, {name: weight for name, weight in file.items() if name.startswith(UNET)})
    elif part.startswith("text_encoder"):
        found = _text_encoder(part, network, file)
    else:
        found = _autoencoder({name: weight for name, weight in file.items() if name.startswith(AUTOENCODER)})
    return {name: tuple(weight.shape) for name, weight in found.items() if weight is not None}


def _unet(network: Any, file: dict[str, Tensor]) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config = dict(network.config)
    if not all(name in file for name in _LABELS):  # which diffusers would look up
        config |= {"class_embed_type": None, "addition_embed_type": None}
    found = convert_ldm_unet_checkpoint(file, config)
    used = {id(weight) for weight in found.values()}
    return found | {name: weight for name, weight in file.items() if id(weight) not in used}


def _autoencoder(file: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers converts as many levels as the configuration has, so it is given the number of levels in the file."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = len({found[1] for name in file if (found := _LEVEL.search(name))})
    return dict(
        convert_ldm_vae_checkpoint(file, {name: range(levels) for name in ("down_block_types", "up_block_types")})
    )


def _text_encoder(part: str, network: Any, file: dict[str, Tensor]) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    clip = next((each for each in CLIP if any(name.startswith(each) for name in file)), None)
    if part == "text_encoder" and clip is not None:
        found = {name.removeprefix(clip): weight for name, weight in file.items() if name.startswith(clip)}
    else:
        found = convert_open_clip_checkpoint(network, file, prefix=_OPEN_CLIP[part])
    inner = _TEXT if hasattr(network, "text_model") else ""
    bare = {name.removeprefix(_TEXT): weight for name, weight in found.items()}
    return {name if name.startswith("text_projection.") else inner + name: weight for name, weight in bare.items()}
