"""The objects that a prompt names, for methods that act on several objects: options, words and their presence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.errors import BadInput
from sfumato.methods.inversions import InversionParams
from sfumato.methods.job import Job
from sfumato.methods.objects import weights_at
from sfumato.methods.params import PromptPair, option

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from sfumato.core.condition import Condition
    from sfumato.core.prompt import Prompt
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.shifts.energy.presence import Presence
    from sfumato.shifts.energy.word import Word


@dataclass(frozen=True)
class ObjectsParams(InversionParams):
    """Which objects, and in which steps."""

    needs_text: ClassVar[bool] = True

    objects: str = option("", 'objects of the prompt, with their attributes: "red heart, cat face"', stage="edit")
    end: float = option(0.5, "share of the steps at which the guidance ends", stage="edit", low=0, high=1)

    def named(self) -> list[list[str]]:
        """Words of each object: its attributes, then its noun. Raises BadInput for an empty object."""
        parts = [part.split() for part in self.objects.split(",")] if self.objects.strip() else []
        if not all(parts):
            raise BadInput(f'objects are separated by commas, like "red heart, cat face", not "{self.objects}".')
        return parts

    def check(self) -> None:
        """Check ranges and the list of objects. Raises BadInput."""
        super().check()
        self.named()

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that every prompt contains all objects. Raises BadInput."""
        if self.objects and not prompts:
            raise BadInput("The text encoders of this model split the prompts differently, so words have no positions.")
        for _, target in prompts:
            placed(target, self.named())


def words_of(job: Job, named: Sequence[Sequence[str]]) -> list[list[Word]]:
    """The words of each object, at the positions of its own phrase in the prompts; see `placed`."""
    from sfumato.models.layout import word_layers
    from sfumato.shifts.energy.word import Word

    assert job.condition.tokens is not None
    layers, grid = word_layers(job.network.unet, job.size)
    rows, tokens = [placed(prompt, named) for prompt in job.condition.prompts], job.condition.tokens.shape[1]
    return [
        [Word(layers, grid, weights_at([row[n][k] for row in rows], tokens)) for k in range(len(words))]
        for n, words in enumerate(named)
    ]


def placed(prompt: Prompt, named: Sequence[Sequence[str]]) -> list[list[tuple[int, ...]]]:
    """Token positions of every word of every object.

    An object stands where its phrase is, outside longer phrases of other objects: with "red heart" and "blue heart" the
    noun of each is a heart of its own. An object that is named once stands at all occurrences of its phrase; if a
    phrase is named several times, each object has its own occurrences, in their order.

    Args:
        prompt: the prompt.
        named: words of each object, see `ObjectsParams.named`.

    Raises:
        BadInput: the prompt does not contain an object, or not as often as it is named.
    """
    phrases = [" ".join(words).casefold() for words in named]
    rows: dict[str, list[range]] = {}
    taken: set[int] = set()
    for phrase in sorted(dict.fromkeys(phrases), key=len, reverse=True):
        prompt.positions(phrase)
        rows[phrase] = [row for row in prompt.occurrences(phrase) if not taken >= set(row)]
        taken |= {word for row in rows[phrase] for word in row}
        if len(rows[phrase]) < phrases.count(phrase):
            raise BadInput(
                f'objects names "{phrase}" more often than the prompt "{prompt.text}" contains it by itself.'
            )
    found = []
    for n, (phrase, words) in enumerate(zip(phrases, named, strict=True)):
        own = rows[phrase][phrases[:n].count(phrase) :: phrases.count(phrase)]
        each = [_split(prompt, row, words) for row in own]
        found.append([tuple(place for row in each for place in row[k]) for k in range(len(words))])
    return found


def _split(prompt: Prompt, row: range, words: Sequence[str]) -> list[list[int]]:
    """Token positions of each word within one occurrence of the phrase; the prompt may be split at other letters."""
    found, letters = [], [k for k in row for _ in prompt.words[k].casefold()]
    for word in words:
        count = len(word.casefold())
        found.append([place for k in sorted(set(letters[:count])) for place in prompt.places[k]])
        letters = letters[count:]
    return found


def presence(job: Job, named: Sequence[Sequence[str]], *, published: bool) -> Presence:
    """The energy of the nouns of the objects.

    Args:
        job: the run.
        named: words of each object.
        published: the loss of Attend-and-Excite's code; otherwise the mean over all objects, with the softmax over the
            tokens of the text only and a narrower filter.
    """
    from sfumato.models.layout import word_layers
    from sfumato.shifts.energy.presence import DEVIATION, PUBLISHED_DEVIATION, Presence

    layers, grid = word_layers(job.network.unet, job.size)
    words = tuple(each[-1].target for each in words_of(job, named))
    text = text_of(job.condition)
    if not published:
        return Presence(layers, grid, words, text, False, DEVIATION)
    text[:] = 1
    text[:, [0, -1]] = 0
    return Presence(layers, grid, words, text, True, PUBLISHED_DEVIATION)


def text_of(condition: Condition) -> Float[Tensor, "b n"]:
    """1 for tokens of the words of each prompt, 0 for start, end and padding."""
    import torch

    assert condition.tokens is not None
    found = torch.zeros(condition.tokens.shape[:2])
    for row, prompt in zip(found, condition.prompts, strict=True):
        row[[place for places in prompt.places for place in places]] = 1
    return found
