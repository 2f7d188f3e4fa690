"""Parsing of changes of objects, such as "fox: 0.2, 0; ball: 0, -0.1", and token weights of their words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from sfumato.editing.job import Job
from sfumato.errors import BadInput
from sfumato.ranges import Range
from sfumato.shifts.energy.warp import Warp

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from sfumato.core.condition import Condition
    from sfumato.shifts.energy.word import Word

Changes: TypeAlias = dict[str, Warp]
"""Affine map of each changed object, by its word."""
_SHARES, _FACTORS, _DEGREES = Range(above=-1, below=1), Range(low=0.1, high=10), Range(low=-360, high=360)


def parse(move: str, resize: str, reshape: str) -> Changes:
    """Parse the options of changes and combine them by word, see `key_of`.

    Args:
        move: "WORD: RIGHT, DOWN", displacements as fractions of the image, above -1 and below 1: by 1 or more, every
            object would leave the image.
        resize: "WORD: FACTOR", factor of width and height between 0.1 and 10.
        reshape: "WORD: WIDTH, HEIGHT[, ANGLE]", factors between 0.1 and 10 and degrees clockwise.

    Raises:
        BadInput: the text has another form, a number is out of range, or a word occurs twice in one option or in both
            resize and reshape.
    """
    moves = read_numbers("move", move, [_SHARES, _SHARES], 2)
    sizes = read_numbers("resize", resize, [_FACTORS], 1)
    shapes = read_numbers("reshape", reshape, [_FACTORS, _FACTORS, _DEGREES], 2)
    if both := sizes.keys() & shapes.keys():
        raise BadInput(f'resize and reshape both name "{sorted(both)[0]}": give one of them.')
    changes = {word: (factor, factor) for word, (factor,) in sizes.items()} | shapes
    if not moves and not changes:
        return {}
    found = {word: Warp(right=right, down=down) for word, (right, down) in moves.items()}
    for word, (width, height, *angle) in changes.items():
        before = found.get(word, Warp())
        found[word] = replace(before, width=width, height=height, angle=angle[0] if angle else 0.0)
    return found


def parse_swaps(text: str) -> dict[str, str]:
    """Parse pairs of words that exchange their positions: "Fox, ball" -> {"fox": "ball", "ball": "fox"}.

    Raises:
        BadInput: the text has another form, or a word occurs twice.
    """
    found: dict[str, str] = {}
    for part in (each for each in text.split(";") if each.strip()):
        words = [key_of(word) for word in part.split(",")]
        if len(words) != 2 or not all(words):
            raise BadInput(f'swap must be WORD, WORD; several pairs separated by semicolons; not "{part.strip()}".')
        if words[0] == words[1] or found.keys() & set(words):
            raise BadInput(f'swap must name every word once, not "{text.strip()}".')
        found |= {words[0]: words[1], words[1]: words[0]}
    return found


def read_numbers(
    name: str, text: str, ranges: list[Range], fewest: int, form: str = ""
) -> dict[str, tuple[float, ...]]:
    """Parse words with numbers, "WORD: A, B; WORD: A, B". The keys of the result are those of `key_of`.

    Args:
        name: name of the option in error messages.
        text: value of the option.
        ranges: allowed ranges of the numbers, in order.
        fewest: minimum count of numbers per word.
        form: the form of one part in error messages; "WORD: a number, ..." by default.

    Raises:
        BadInput: the text has another form, a number is out of range, or a word occurs twice.
    """
    found: dict[str, tuple[float, ...]] = {}
    for part in (each for each in text.split(";") if each.strip()):
        word, colon, values = part.rpartition(":")
        numbers = [_number(each) for each in values.split(",")]
        if not colon or not word.strip() or not fewest <= len(numbers) <= len(ranges) or None in numbers:
            wanted = form or f"WORD: {', '.join(['a number'] * fewest)}"
            raise BadInput(f'{name} must be {wanted}; several separated by semicolons; not "{part.strip()}".')
        for value, within in zip(numbers, ranges, strict=False):
            if value is not None and value not in within:
                raise BadInput(f'{name} of "{word.strip()}" must be {within}, not {value:g}.')
        if key_of(word) in found:
            raise BadInput(f'{name} names "{word.strip()}" twice.')
        found[key_of(word)] = tuple(float(value) for value in numbers if value is not None)
    return found


def key_of(word: str) -> str:
    """Return a word or phrase in the form in which phrases are compared: in lower case, with single spaces."""
    return " ".join(word.split()).casefold()


def word_of(job: Job, name: str) -> Word:
    """Return a word of the prompts of a job, with the attention layers that localise words best."""
    from sfumato.models.layout import word_layers
    from sfumato.shifts.energy.word import Word

    layers, grid = word_layers(job.network.unet, job.size)
    target = weights_of(job.condition, name)
    return Word(layers, grid, target, weights_of(job.source, name) if job.has_source else None, name=name)


def weights_of(condition: Condition, name: str) -> Float[Tensor, "b n"]:
    """Return token weights [b, tokens]: equal weights with the sum 1 for the tokens of a word, 0 for all others."""
    from sfumato.shifts.alignment import token_weights

    assert condition.tokens is not None
    found = token_weights(condition.prompts, [name], [1.0], condition.tokens.shape[1], 0.0)
    return found / found.sum(dim=1, keepdim=True).clamp(min=1)


def weights_at(places: Sequence[Sequence[int]], tokens: int) -> Float[Tensor, "b n"]:
    """Return token weights [b, tokens]: equal with the sum 1 at given positions (one list per image), 0 elsewhere."""
    import torch

    found = torch.zeros(len(places), tokens)
    for row, own in zip(found, places, strict=True):
        row[list(own)] = 1 / max(1, len(own))
    return found


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    return _number(text) is not None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
