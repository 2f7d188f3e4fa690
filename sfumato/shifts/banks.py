"""Sentence banks: a text direction is the difference of their mean embeddings (arXiv 2302.03027, section 3.1)."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sfumato.errors import BadInput
from sfumato.files import printable, write_text
from sfumato.text_files import read_text

if TYPE_CHECKING:
    from sfumato.models.text import TextEncoder

TEMPLATES = (
    "{}",
    "{} outdoors",
    "{} at home",
    "{} on white",
    "{} in the sun",
    "{} in the dark",
    "{} seen from the front",
    "{} seen from the side",
    "{} and nothing else",
    "{}, a photo",
    "{}, a close photo",
    "{}, a bright photo",
    "{}, a dark photo",
    "{}, a drawing",
    "{}, a painting",
    "{}, a sketch",
    "{}, an emoji",
    "{}, a small icon",
    "{}, noto",
    "{}, twemoji",
    "{}, openmoji",
    "{}, fluent-flat",
    "{}, fxemoji",
    "{}, emojitwo",
)
"""Sentence templates for one object, for photographs and in the style of emoji captions.

A direction is a difference of token embeddings per position. The word is therefore at the same position in all
templates; if its position varied, the averaged difference at each position would be smaller than the full difference.
"""


def templated(word: str) -> list[str]:
    """Return the built-in sentences with a word or phrase."""
    return [template.format(word.strip()) for template in TEMPLATES]


def read_bank(path: str | os.PathLike[str]) -> list[str]:
    """Read the sentences of a text file, one per line; empty lines are skipped.

    Raises:
        BadInput: the file does not exist, is not UTF-8, is too long, or has fewer than two sentences.
    """
    lines = read_text(path, "give a sentence bank, a text file (UTF-8) with one sentence per line").splitlines()
    sentences = [line.strip() for line in lines if line.strip()]
    check_size(sentences, f"The bank {printable(path)}")
    return sentences


def write_bank(path: str | os.PathLike[str], sentences: Sequence[str]) -> None:
    """Write sentences to a file that `read_bank` reads. Raises BadInput if it cannot be written."""
    write_text(path, "".join(f"{sentence}\n" for sentence in sentences))


def check_size(sentences: Sequence[str], name: str) -> None:
    """Raise BadInput if a bank has fewer than two sentences; the message begins with `name`."""
    if len(sentences) < 2:
        raise BadInput(f"{name} needs at least 2 sentences, one per line, and has {len(sentences)}.")


def check_different(source: Sequence[str], target: Sequence[str]) -> None:
    """Raise BadInput if two banks have the same sentences, whose direction is zero."""
    if list(source) == list(target):
        raise BadInput("The source and the target of the direction are equal, so that it is zero: give different ones.")


def check_bank(text_encoders: "Sequence[TextEncoder]", sentences: Sequence[str], name: str) -> None:
    """Check that the text encoders of a model can read a bank, before anything is encoded.

    Raises:
        BadInput: the bank has fewer than two sentences, or a sentence is too long or without words.
    """
    check_size(sentences, name)
    for text_encoder in text_encoders:
        for sentence in sentences:
            read = text_encoder.read(sentence)
            if len(read.ids) > text_encoder.chunks * text_encoder.context:
                raise BadInput(
                    f"{name} has a sentence of {sum(map(len, read.places))} tokens but this model reads at most "
                    f'{text_encoder.chunks * (text_encoder.context - 2)}: shorten "{sentence[:40]}...".'
                )
            if not read.words:
                raise BadInput(f'{name} has a sentence without words for this model: change or remove "{sentence}".')
