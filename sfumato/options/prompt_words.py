"""Words of the prompts that options name, compared without a tokenizer. This module does not import torch."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sfumato.errors import BadInput


@dataclass(frozen=True)
class NamedWord:
    """A word that the prompts of an edit must contain.

    Attributes:
        option: the option that names it.
        word: a word or a phrase.
        prompt: the prompt that must contain it.
    """

    option: str
    word: str
    prompt: Literal["source", "target", "either"]


def check_named(words: Iterable[NamedWord], sources: Sequence[str], targets: Sequence[str]) -> None:
    """Check, without a tokenizer, that prompts contain the letters of words.

    The checks after the model is loaded (`Params.check_run`) compare whole words, which needs its tokenizer.

    Args:
        words: the words.
        sources: source prompts without prompt weights, one or one per image.
        targets: target prompts in the same form; the source prompt takes the place of an empty one.

    Raises:
        BadInput: a prompt of an image does not contain a word.
    """
    words = list(words)
    for n in range(max(len(sources), len(targets))):
        source, target = sources[n % len(sources)], targets[n % len(targets)]
        for each in words:
            _check(each, source, target if target.strip() else source)


def contains(prompt: str, word: str) -> bool:
    """Whether a prompt contains the letters of a word or phrase; white space and case are ignored."""
    return _letters(word) in _letters(prompt)


def _check(named: NamedWord, source: str, target: str) -> None:
    there = {"source": [source], "target": [target], "either": [source, target]}[named.prompt]
    if any(contains(text, named.word) for text in there):
        return
    if named.prompt == "either":
        raise BadInput(
            f'The word "{named.word}" of {named.option} is in neither prompt: give words of the source prompt '
            f'"{source:.80}" or of the target prompt "{target:.80}".'
        )
    raise BadInput(
        f'The word "{named.word}" of {named.option} is not in the {named.prompt} prompt "{there[0]:.80}": give words '
        "of this prompt."
    )


def _letters(text: str) -> str:
    """A text without white space and case."""
    return "".join(unicodedata.normalize("NFKC", text).split()).casefold()
