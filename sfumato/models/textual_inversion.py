"""Textual inversions: new words of a text encoder, each one or several embedding vectors (arXiv 2208.01618)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.models.added_contents import embedding_word
from sfumato.models.added_files import GivenInversion, place_and_word
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.text import TextEncoder
from sfumato.regular_files import file_hash


@dataclass(frozen=True, eq=False)
class TextualInversion:
    """A textual inversion.

    Attributes:
        path: the file.
        word: the word in prompts.
        vectors: its vectors for every text encoder, [n,d] each; one for Stable Diffusion, two for SDXL.
    """

    path: Path
    word: str
    vectors: tuple[Float[Tensor, "n d"], ...]

    def about(self) -> dict[str, Any]:
        """Name, hash and word, for recipes."""
        return {"name": self.path.name, "sha256": file_hash(self.path, "give the file again"), "word": self.word}


def read_textual_inversions(given: GivenInversion | Sequence[GivenInversion]) -> tuple[TextualInversion, ...]:
    """Read textual inversions.

    Args:
        given: one or several files, each a path or "FILE:WORD".

    Raises:
        BadInput: a file is not a textual inversion, or a word cannot be used.
    """
    several = list(given) if isinstance(given, list | tuple) else [given]
    return tuple(map(_read, several))


def _read(given: Any) -> TextualInversion:
    path, word = place_and_word(given)
    name = printable(path)
    word, keys = embedding_word(path, word)
    with safe_open(path, "pt") as stored:
        vectors = [stored.get_tensor(key).float() for key in sorted(keys, reverse=True)]  # clip_l, then clip_g
    if not all(bool(torch.isfinite(each).all()) for each in vectors):
        raise BadInput(f"{name} is damaged: it contains values that are not finite; download it again.")
    return TextualInversion(path, word, tuple(each.reshape(-1, each.shape[-1]) for each in vectors))


def add_word(model: DiffusionModel, inversion: TextualInversion) -> None:
    """Add the word to the tokenizers and its vectors to the text encoders, as diffusers' load_textual_inversion does.

    Raises:
        BadInput: the inversion belongs to another model, or the word is already a token. The model is then unchanged.
    """
    name, encoders = printable(inversion.path), model.text_encoders
    widths = [each.encoder.get_input_embeddings().embedding_dim for each in encoders]
    if (theirs := [each.shape[1] for each in inversion.vectors]) != widths:
        raise BadInput(
            f"{name} is a textual inversion for another kind of model: its vectors have the widths {theirs}, the text "
            f"encoders of {model.name or 'this model'} {widths or 'do not exist'}."
        )
    tokens = [inversion.word, *(f"{inversion.word}_{n}" for n in range(1, len(inversion.vectors[0])))]
    for encoder in encoders:
        if taken := [token for token in tokens if _is_token(encoder, token)]:
            raise BadInput(
                f"The tokenizer already has the word {taken[0]!r} (case does not matter): name another one, "
                f"{inversion.path.name}:WORD."
            )
    for encoder, vectors in zip(encoders, inversion.vectors, strict=True):
        _add(encoder, tokens, vectors)


def _is_token(encoder: TextEncoder, word: str) -> bool:
    """Whether a word is already a token of the tokenizer, after its case normalisation."""
    start_and_end = 2
    return word in encoder.tokenizer.get_vocab() or len(encoder.tokenizer(word).input_ids) == start_and_end + 1


@torch.no_grad()
def _add(encoder: TextEncoder, tokens: list[str], vectors: Float[Tensor, "n d"]) -> None:
    encoder.tokenizer.add_tokens(tokens)
    table = encoder.encoder.get_input_embeddings()
    if (size := len(encoder.tokenizer.get_vocab())) > table.num_embeddings:
        encoder.encoder.resize_token_embeddings(size, mean_resizing=False)
        table = encoder.encoder.get_input_embeddings()
    for token, vector in zip(tokens, vectors, strict=True):
        table.weight[encoder.tokenizer.convert_tokens_to_ids(token)] = vector.to(table.weight)
    table.weight.requires_grad_(False)
