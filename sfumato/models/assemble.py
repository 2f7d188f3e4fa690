"""From the parts of a diffusers pipeline to a DiffusionModel, refusing what would be misunderstood."""

from collections.abc import Mapping
from typing import Any, cast

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel, UNet2DModel, VQModel

from sfumato.errors import BadInput
from sfumato.models.codec import Autoencoder, Codec, PixelSpace
from sfumato.models.conditioning import token_widths
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.schedules import schedule_from_config
from sfumato.models.text import TextEncoder
from sfumato.networks.load import readable

UNETS = (UNet2DConditionModel, UNet2DModel)
AUTOENCODERS = (AutoencoderKL, VQModel, AutoencoderTiny)
#: Of a latent: published networks have 256 at most.
MOST_SIDE = 1024
SUPPORTED = (
    "Stable Diffusion 1.x, 2.x and XL, their inpainting and InstructPix2Pix variants, and pixel-space or latent "
    "UNet2DModel and UNet2DConditionModel pipelines"
)


def assemble(
    parts: Mapping[str, Any],
    *,
    name: str,
    settings: Mapping[str, Any] | None = None,
    empty_prompt_is_zero: bool = False,
) -> DiffusionModel:
    """A model of the parts of a pipeline in memory, shared with it and set to evaluation without gradients.

    Args:
        parts: `pipeline.components`, or loaded parts under the same names.
        name: what messages call the model.
        settings: defaults for editing and generating.
        empty_prompt_is_zero: SDXL's `force_zeros_for_empty_prompt`.

    Raises:
        BadInput: a layout that sfumato does not support.
    """
    unet = parts["unet"]
    autoencoder = parts.get("vae") or parts.get("vqvae")
    for part, other in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
        if parts.get(part) is not None and parts.get(other) is None:
            raise BadInput(f"{name} has a {part} and no {other}, so it cannot read prompts; get the {other} too.")
        if parts.get(part) is None and parts.get(other) is not None:
            missing = part.replace("_", " ")
            raise BadInput(f"{name} has a {other} and no {missing}, so it cannot read prompts; get the {missing} too.")
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
        f"it works on pictures of {colours} channels, not on RGB": colours != 3,
        "its network also predicts the variance": config.out_channels == 2 * codec.channels,
        f"its network returns {config.out_channels} channels and a latent has {codec.channels}": (
            config.out_channels != codec.channels
        ),
        f"its network takes {config.in_channels} channels and a latent has {codec.channels}": (
            config.in_channels < codec.channels
        ),
        f"its network is made for latents of {config.sample_size!s:.100} a side": not _sides(config.sample_size),
    }
    if isinstance(unet, UNet2DConditionModel):
        found |= _conditional_problems(unet, text_encoders)
    found |= {each.problem: bool(each.problem) for each in text_encoders}
    return [problem for problem, present in found.items() if present]


def _pixel_channels(unet: Any) -> int:
    """Channels of a picture that a network without an autoencoder works on; it may take maps beside it."""
    return int(min(unet.config.in_channels, unet.config.out_channels))


def _sides(size: Any) -> bool:
    """Whether the side of a latent, or height and width, or None, is one that a picture may have unasked."""
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
        "its cross-attention layers read tokens of different widths": not text_encoders and len(token_widths(unet)) > 1,
        "it has no text encoder": not text_encoders and added is not None,
        f"its network expects text of width {config.cross_attention_dim} and the encoders give {width}": (
            bool(text_encoders) and config.cross_attention_dim != width
        ),
        f'its network expects "{added}" as an additional condition': added not in (None, "text_time"),
        "it has another number of text encoders than Stable Diffusion": (
            bool(text_encoders) and len(text_encoders) != (2 if added else 1)
        ),
        "its network is conditioned through a projection": config.encoder_hid_dim_type is not None,
        "its network expects the guidance scale as input (a consistency model)": (
            config.time_cond_proj_dim is not None
        ),
    }
    if added == "text_time" and len(text_encoders) == 2:
        ids = 6 * config.addition_time_embed_dim + text_encoders[-1].encoder.config.projection_dim
        problems["its network expects other size conditions than SDXL's base model (a refiner)"] = (
            ids != config.projection_class_embeddings_input_dim
        )
    return problems
