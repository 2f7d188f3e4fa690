"""The text encoder that conditions a diffusion model: frozen, fine-tuned with the U-Net, or trained from scratch.

Rombach et al. (CVPR 2022, section 4.3.1) train their transformer together with the U-Net; Stable Diffusion keeps a
CLIP text encoder frozen. All three end as a CLIPTextModel, so that any Stable Diffusion pipeline opens the result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.metrics.frozen import load_frozen
from sfumato.networks.clip_tokenizer import read_tokenizer
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.dataset import exported_folder
from sfumato.train.frozen import text_fingerprint
from sfumato.train.ranges import ranged
from sfumato.train.tokenizer import (
    LEAST_CONTEXT,
    LEAST_VOCABULARY,
    kept_tokenizer,
    tokenizer_fingerprint,
    train_tokenizer,
)


@dataclass(frozen=True)
class TextEncoderRecipe:
    """The text encoder of a diffusion model.

    Attributes:
        start: folder that `sfumato train dual-encoder` exported, or of a Stable Diffusion pipeline, whose text encoder
            is taken with its tokenizer; "" for a new transformer and a tokenizer learned from the captions.
        frozen: leave it as it is (with `start`), instead of training it with the U-Net.
        width: channels of a new transformer, one attention head per 64 of them.
        layers: blocks of a new transformer.
        vocabulary: upper bound on a new tokenizer's vocabulary.
        context: longest caption of a new tokenizer in tokens.
    """

    start: str = ""
    frozen: bool = False
    width: int = ranged(192, low=64)
    layers: int = ranged(4, low=1)
    vocabulary: int = ranged(3000, low=LEAST_VOCABULARY)
    context: int = ranged(32, low=LEAST_CONTEXT)

    def check(self) -> None:
        """Refuse what cannot be built.

        Raises:
            BadInput: frozen without `start`, a folder without an exported model, a width that the heads do not divide.
        """
        if self.start:
            started_from(self.start)
        elif self.frozen:
            raise BadInput("network.text.frozen needs network.text.start: a random text encoder conditions nothing.")
        if self.width % 64:
            raise BadInput(f"network.text.width must be a multiple of 64, not {self.width}.")


def started_from(start: str) -> tuple[Path, Path]:
    """The folders of the text encoder and of the tokenizer in a dual encoder's folder or a pipeline's.

    Raises:
        BadInput: nothing was exported there.
    """
    parts = Path(start, "text_encoder"), Path(start, "tokenizer")
    if all(part.is_dir() for part in parts):
        return parts
    return exported_folder(start), Path(start)


def load_tokenizer(recipe: TextEncoderRecipe, folder: Path, texts: Callable[[], Sequence[str]]) -> CLIPTokenizer:
    """The tokenizer of the text encoder that `recipe.start` names, or one learned from texts.

    Args:
        recipe: of the text encoder.
        folder: of the run, which keeps a learned tokenizer.
        texts: gives the captions; called only where one is learned.
    """
    if recipe.start:
        return read_tokenizer(started_from(recipe.start)[1])
    started = newest_checkpoint(folder / "checkpoints") is not None
    return kept_tokenizer(
        folder / "tokenizer", started, lambda: train_tokenizer(texts(), recipe.vocabulary, recipe.context)
    )


def build_text_encoder(recipe: TextEncoderRecipe, tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModel:
    """The text encoder before training, with gradients unless it is frozen."""
    if recipe.start:
        text = load_frozen(CLIPTextModel, started_from(recipe.start)[0])
        return text if recipe.frozen else text.requires_grad_(True).train()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), max_position_embeddings=recipe.context, hidden_size=recipe.width,
        intermediate_size=4 * recipe.width, num_hidden_layers=recipe.layers, num_attention_heads=recipe.width // 64,
        projection_dim=recipe.width, hidden_act="gelu", bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPTextModel(config)


def bound_text(recipe: TextEncoderRecipe, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> dict[str, str]:
    """What the U-Net's weights are bound to: the tokenizer, and a frozen text encoder's weights."""
    weights = {"text encoder": text_fingerprint(text)} if recipe.frozen else {"network.text.frozen": "False"}
    return weights | {"tokenizer": tokenizer_fingerprint(tokenizer)}


def refuse_partial_evaluator(evaluator: str, text: CLIPTextModel) -> None:
    """Refuse an evaluator that shares its text encoder with the model that it is to score.

    Args:
        evaluator: folder of the dual encoder that is exported beside the pipeline; "" for none.
        text: the text encoder that conditions the diffusion model, before training.

    Raises:
        BadInput: `evaluator` has the same text encoder, or holds no dual encoder.
    """
    if evaluator and text_fingerprint(load_frozen(CLIPTextModel, exported_folder(evaluator))) == text_fingerprint(text):
        raise BadInput(
            f"network.evaluator = '{evaluator}' is the dual encoder whose text encoder conditions the U-Net, so "
            "its scores would flatter the model; train another one with another seed, or leave network.evaluator out."
        )
