"""The two encoders of a small CLIP (Radford et al. 2021): their architecture in a recipe, with random weights."""

import math
from dataclasses import dataclass

from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.train.ranges import ranged
from sfumato.train.tokenizer import LEAST_CONTEXT, LEAST_VOCABULARY


@dataclass(frozen=True)
class DualEncoderNetwork:
    """Architecture and initial weights of the two encoders: table [network].

    Attributes:
        width: channels of both encoders, a multiple of 64; one attention head per 64 channels.
        image_layers: blocks of the image encoder.
        text_layers: blocks of the text encoder.
        patch: side of the image patches in pixels.
        projection: dimension of the shared embedding space.
        vocabulary: largest vocabulary of the tokenizer.
        context: longest caption in tokens, start and end token included.
        start: folder of an exported dual encoder with the initial weights and the tokenizer; "" for random weights and
            a new tokenizer. It determines the settings above and `loss.temperature`, which can then be left out.
        freeze_text: train only the image encoder (requires `start`), so that a diffusion model conditioned on the text
            encoder stays valid (LiT, Zhai et al., CVPR 2022, with the roles of the encoders exchanged).
    """

    width: int = ranged(192, low=64)
    image_layers: int = ranged(6, low=1)
    text_layers: int = ranged(4, low=1)
    patch: int = ranged(8, low=1)
    projection: int = ranged(128, low=1)
    vocabulary: int = ranged(3000, low=LEAST_VOCABULARY)
    context: int = ranged(32, low=LEAST_CONTEXT)
    start: str = ""
    freeze_text: bool = False


def check_encoders(shape: DualEncoderNetwork, size: int) -> None:
    """Check the architecture for images of side `size`.

    Raises:
        BadInput: `size` is not a multiple of the patch size, or the width not a multiple of 64.
    """
    if size % shape.patch:
        raise BadInput(f"data.size must be a multiple of network.patch = {shape.patch}, not {size}.")
    if shape.width % 64:
        raise BadInput(f"network.width must be a multiple of 64, not {shape.width}.")


def build_dual_encoder(
    shape: DualEncoderNetwork, size: int, tokenizer: CLIPTokenizer, temperature: float = 0.07
) -> CLIPModel:
    """Build a CLIPModel with random weights.

    Args:
        shape: its architecture.
        size: side of the images in pixels.
        tokenizer: gives the vocabulary size and the special tokens.
        temperature: initial temperature of the softmax.

    Raises:
        BadInput: see `check_encoders`.
    """
    check_encoders(shape, size)
    transformer = dict(
        hidden_size=shape.width, intermediate_size=4 * shape.width, num_attention_heads=shape.width // 64,
        projection_dim=shape.projection, hidden_act="gelu",
    )  # fmt: skip
    ids = dict(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text = (
        transformer
        | ids
        | dict(
            vocab_size=len(tokenizer),
            max_position_embeddings=shape.context,
            num_hidden_layers=shape.text_layers,
        )
    )
    vision = transformer | dict(image_size=size, patch_size=shape.patch, num_hidden_layers=shape.image_layers)
    return CLIPModel(
        CLIPConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=shape.projection,
            logit_scale_init_value=-math.log(temperature),
        )
    )
