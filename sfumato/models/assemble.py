"""Build a DiffusionModel from the parts of a diffusers pipeline, and refuse unsupported layouts."""

from collections.abc import Mapping
from typing import Any, cast

from diffusers import UNet2DConditionModel

from sfumato.errors import BadInput
from sfumato.models.codec import Autoencoder, Codec, PixelSpace
from sfumato.models.conditioning import token_widths
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.index import SUPPORTED
from sfumato.models.schedules import schedule_from_config
from sfumato.models.text import TextEncoder
from sfumato.networks.load import readable

#: Largest height or width of a latent; published networks have at most 256.
MOST_SIDE = 1024


def assemble(
    parts: Mapping[str, Any],
    *,
    name: str,
    settings: Mapping[str, Any] | None = None,
    empty_prompt_is_zero: bool = False,
) -> DiffusionModel:
    """Build a model from loaded parts. The parts are shared, and set to evaluation mode without gradients.

    Args:
        parts: `pipeline.components`, or loaded parts under the same names.
        name: name of the model in messages.
        settings: defaults for editing and generating.
        empty_prompt_is_zero: SDXL's `force_zeros_for_empty_prompt`.

    Raises:
        BadInput: parts are missing or broken, or sfumato does not support the layout.
    """
    unet = parts["unet"]
    autoencoder = parts.get("vae") or parts.get("vqvae")
    for part, other in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
        if parts.get(part) is not None and parts.get(other) is None:
            raise BadInput(f"{name} has a {part} and no {other}, so it cannot encode prompts; add the {other}.")
        if parts.get(part) is None and parts.get(other) is not None:
            missing = part.replace("_", " ")
            raise BadInput(f"{name} has a {other} and no {missing}, so it cannot encode prompts; add the {missing}.")
    with readable(f"The autoencoder of {name} cannot be used"):
        codec: Codec = PixelSpace(_pixel_channels(unet)) if autoencoder is None else Autoencoder(autoencoder.float())
    text_encoders = [
        TextEncoder(parts["tokenizer" + suffix], parts["text_encoder" + suffix])
        for suffix in ("", "_2")
        if parts.get("text_encoder" + suffix) is not None
    ]
    scheduler = parts["scheduler"]
    config = {**scheduler.config, "_class_name": type(scheduler).__name__}
    with readable(f"The scheduler of {name} cannot be used"):
        schedule = schedule_from_config(config, pixels=autoencoder is None)
    for problem in _problems(unet, codec, text_encoders):
        raise BadInput(f"{name} cannot be used: {problem}; sfumato works with {SUPPORTED}.")
    return DiffusionModel(
        unet, codec, text_encoders, schedule, name=name, settings=settings, empty_prompt_is_zero=empty_prompt_is_zero
    )


def _problems(unet: Any, codec: Codec, text_encoders: list[TextEncoder]) -> list[str]:
    config: Any = unet.config
    colours = codec.channels if codec.module is None else cast(Any, codec.module).config.in_channels
    found = {
        f"it works on images of {colours} channels, not on RGB": colours != 3,
        "its network also predicts the variance": config.out_channels == 2 * codec.channels,
        f"its network returns {config.out_channels} channels, but a latent has {codec.channels}": (
            config.out_channels != codec.channels
        ),
        f"its network takes {config.in_channels} channels, but a latent has {codec.channels}": (
            config.in_channels < codec.channels
        ),
        f"the sample_size of its network is {config.sample_size!s:.100}, not one or two sides from 1 to {MOST_SIDE}": (
            not _sides(config.sample_size)
        ),
    }
    if isinstance(unet, UNet2DConditionModel):
        found |= _conditional_problems(unet, text_encoders)
    found |= {each.problem: bool(each.problem) for each in text_encoders}
    return [problem for problem, present in found.items() if present]


def _pixel_channels(unet: Any) -> int:
    """Image channels of a network without an autoencoder, whose input may also contain concatenated maps."""
    return int(min(unet.config.in_channels, unet.config.out_channels))


def _sides(size: Any) -> bool:
    """Whether sample_size is None, or a side or (height, width) from 1 to `MOST_SIDE`."""
    sides = [size, size] if isinstance(size, int) else size
    return size is None or (
        isinstance(sides, list | tuple)
        and len(sides) == 2
        and all(isinstance(side, int) and 1 <= side <= MOST_SIDE for side in sides)
    )


def _conditional_problems(unet: Any, text_encoders: list[TextEncoder]) -> dict[str, bool]:
    config = unet.config
    added = config.addition_embed_type
    width = sum(each.encoder.config.hidden_size for each in text_encoders)
    problems = {
        "its cross-attention layers take tokens of different widths": not text_encoders and len(token_widths(unet)) > 1,
        "it has no text encoder": not text_encoders and added is not None,
        f"its network expects tokens of width {config.cross_attention_dim}, but its text encoders return {width}": (
            bool(text_encoders) and config.cross_attention_dim != width
        ),
        f'its network expects "{added}" as an additional condition': added not in (None, "text_time"),
        "its number of text encoders is not that of Stable Diffusion (1, or 2 for XL)": (
            bool(text_encoders) and len(text_encoders) != (2 if added else 1)
        ),
        "its network projects the condition (encoder_hid_dim_type)": config.encoder_hid_dim_type is not None,
        "its network expects the guidance scale as an input (a consistency model)": (
            config.time_cond_proj_dim is not None
        ),
    }
    if added == "text_time" and len(text_encoders) == 2:
        ids = 6 * config.addition_time_embed_dim + text_encoders[-1].encoder.config.projection_dim
        problems["its network expects other size conditions than SDXL's base model (a refiner)"] = (
            ids != config.projection_class_embeddings_input_dim
        )
    return problems
