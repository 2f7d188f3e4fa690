"""The text encoder that conditions a diffusion model: frozen, fine-tuned with the U-Net, or trained from scratch.

Rombach et al. (CVPR 2022, section 4.3.1) train their transformer together with the U-Net; Stable Diffusion keeps a
CLIP text encoder frozen. In all three cases it is a CLIPTextModel, so Stable Diffusion pipelines can load the result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
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
    """The text encoder of a diffusion model: table [network.text].

    Attributes:
        start: folder exported by `sfumato train dual-encoder`, or of a Stable Diffusion pipeline, with the text encoder
            and tokenizer to use; "" for a transformer with random weights and a tokenizer trained on the captions.
        frozen: do not train the text encoder with the U-Net (requires `start`).
        width: channels of a new transformer, a multiple of 64; one attention head per 64 channels.
        layers: blocks of a new transformer.
        vocabulary: largest vocabulary of a new tokenizer.
        context: longest caption of a new tokenizer in tokens, start and end token included.
    """

    start: str = ""
    frozen: bool = False
    width: int = ranged(192, low=64)
    layers: int = ranged(4, low=1)
    vocabulary: int = ranged(3000, low=LEAST_VOCABULARY)
    context: int = ranged(32, low=LEAST_CONTEXT)

    def check(self) -> None:
        """Check that the settings fit together.

        Raises:
            BadInput: `frozen` without `start`, a `start` without an exported model or with settings of a new text
                encoder, or a width that is not a multiple of 64.
        """
        if self.start:
            started_from(self.start)
            changed = [each.name for each in fields(self)[2:] if getattr(self, each.name) != each.default]
            if changed:
                raise BadInput(
                    f"network.text.{changed[0]} describes a new text encoder and has no effect with network.text.start "
                    f"= '{self.start}': leave it out."
                )
        elif self.frozen:
            raise BadInput(
                "network.text.frozen needs network.text.start: without it the text encoder would keep random weights."
            )
        if self.width % 64:
            raise BadInput(f"network.text.width must be a multiple of 64, not {self.width}.")


def started_from(start: str) -> tuple[Path, Path]:
    """Find the folders of the text encoder and tokenizer in an exported dual encoder or a pipeline.

    Raises:
        BadInput: the folder contains no exported model.
    """
    parts = Path(start, "text_encoder"), Path(start, "tokenizer")
    if all(part.is_dir() for part in parts):
        return parts
    return exported_folder(start), Path(start)


def load_tokenizer(recipe: TextEncoderRecipe, folder: Path, texts: Callable[[], Sequence[str]]) -> CLIPTokenizer:
    """Load the tokenizer of the text encoder in `recipe.start`, or train one.

    Args:
        recipe: settings of the text encoder.
        folder: folder of the run, in which a trained tokenizer is saved.
        texts: returns the training texts; called only if a tokenizer is trained.
    """
    if recipe.start:
        return read_tokenizer(started_from(recipe.start)[1])
    started = newest_checkpoint(folder / "checkpoints") is not None
    return kept_tokenizer(
        folder / "tokenizer", started, lambda: train_tokenizer(texts(), recipe.vocabulary, recipe.context)
    )


def build_text_encoder(recipe: TextEncoderRecipe, tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModel:
    """Build the text encoder, with pretrained or random weights; it requires gradients unless it is frozen.

    Raises:
        BadInput: the text encoder in `recipe.start` cannot be read, or does not fit the tokenizer there.
    """
    if recipe.start:
        text = load_frozen(CLIPTextModel, started_from(recipe.start)[0])
        _check_tokenizer(recipe.start, tokenizer, text)
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


def _check_tokenizer(start: str, tokenizer: CLIPTokenizer, text: CLIPTextModel) -> None:
    """Raise BadInput if a tokenizer gives longer sequences or other ids than its text encoder takes."""
    context, known = text.config.max_position_embeddings, text.config.vocab_size
    if tokenizer.model_max_length > context:
        raise BadInput(
            f"the tokenizer in network.text.start = '{start}' has no model_max_length of at most {context} tokens, "
            "the longest input of the text encoder there: correct its tokenizer_config.json."
        )
    if len(tokenizer) > known:
        raise BadInput(
            f"the tokenizer in network.text.start = '{start}' has {len(tokenizer)} tokens, but the text encoder there "
            f"knows {known}: name a folder whose tokenizer and text encoder were trained together."
        )


def bound_text(recipe: TextEncoderRecipe, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> dict[str, str]:
    """Entries of `bound_to` (see `binding`) for the tokenizer and, if it is frozen, the text encoder."""
    weights = {"text encoder": text_fingerprint(text)} if recipe.frozen else {"network.text.frozen": "False"}
    return weights | {"tokenizer": tokenizer_fingerprint(tokenizer)}


def refuse_partial_evaluator(evaluator: str, text: CLIPTextModel) -> None:
    """Raise BadInput for an evaluator whose text encoder also conditions the model that it scores.

    Args:
        evaluator: folder of the dual encoder to export with the pipeline; "" for none.
        text: the text encoder that conditions the diffusion model, before training.

    Raises:
        BadInput: `evaluator` has the same text encoder, or contains no dual encoder.
    """
    if evaluator and text_fingerprint(load_frozen(CLIPTextModel, exported_folder(evaluator))) == text_fingerprint(text):
        raise BadInput(
            f"network.evaluator = '{evaluator}' is the dual encoder whose text encoder conditions the U-Net, so "
            "its scores would be biased in favour of the model; train another one with another seed, or leave "
            "network.evaluator out."
        )
