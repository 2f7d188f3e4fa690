"""Textual inversions: new words of a text encoder, each one or several embedding vectors (arXiv 2208.01618).

There are three kinds of .safetensors files: one tensor under the word itself (diffusers), one tensor "emb_params", and
the tensors "clip_l" and "clip_g" for the two text encoders of SDXL. The last two do not contain the word; by default it
is the name of the file, as in the tools that write them.
"""

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
from sfumato.models.added_files import GivenInversion, place_and_word
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.text import TextEncoder
from sfumato.networks.weights import single_file_weights
from sfumato.regular_files import file_hash

MOST_VECTORS = 75
"""Largest number of vectors of a word: the number of text tokens in CLIP's context."""
_NAMELESS = ({"emb_params"}, {"clip_l", "clip_g"})


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
    shapes = single_file_weights(path).shapes
    keys = set(shapes)
    if keys not in _NAMELESS and len(keys) != 1:
        raise BadInput(f"{name} is not a textual inversion: it contains {len(keys)} tensors; give an embedding file.")
    if any(
        not 1 <= len(shape) <= 2 or not 1 <= (shape[0] if len(shape) == 2 else 1) <= MOST_VECTORS
        for shape in shapes.values()
    ):
        raise BadInput(f"{name} is not a textual inversion of 1 to {MOST_VECTORS} vectors; give an embedding file.")
    if len(counts := sorted({shape[0] if len(shape) == 2 else 1 for shape in shapes.values()})) > 1:
        raise BadInput(
            f"{name} is damaged: its two text encoders have {counts[0]} and {counts[1]} vectors for the word, not the "
            "same number; download it again."
        )
    word = word or (path.stem if keys in _NAMELESS else next(iter(keys)))
    if not word.strip() or len(word.split()) != 1 or len(word) > 100:
        raise BadInput(f"{word!r:.100} cannot be a word of prompts: name another one, {path.name}:WORD.")
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
