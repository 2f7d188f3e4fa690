"""Options and words for methods that act on several objects of a prompt, and the energy of their presence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.editing.job import Job
from sfumato.errors import BadInput
from sfumato.options.inversions import InversionParams
from sfumato.options.objects import weights_at
from sfumato.options.option import option
from sfumato.options.params import PromptPair
from sfumato.options.prompt_words import NamedWord

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
    """Options that name objects of the prompt and the steps that are guided."""

    needs_text: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("objects",)

    objects: str = option("", 'objects of the prompt, with their attributes: "red heart, cat face"', stage="edit")
    end: float = option(0.5, "fraction of the steps at which the guidance ends", stage="edit", low=0, high=1)

    def named(self) -> list[list[str]]:
        """Return the words of each object, its attributes followed by its noun. Raises BadInput for an empty object."""
        parts = [part.split() for part in self.objects.split(",")] if self.objects.strip() else []
        if not all(parts):
            raise BadInput(f'objects are separated by commas, like "red heart, cat face", not "{self.objects}".')
        return parts

    def check(self) -> None:
        """Check ranges and the list of objects. Raises BadInput."""
        super().check()
        self.named()

    @property
    def named_words(self) -> Sequence[NamedWord]:
        """The objects, each with its attributes."""
        return [NamedWord("objects", " ".join(words), "target") for words in self.named()]

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that a step is guided and that every prompt contains all objects. Raises BadInput."""
        if self.named() and not self.end:
            raise BadInput("end must be above 0, as no step is guided otherwise, not 0.")
        if self.named() and not prompts:
            raise BadInput("The text encoders of this model split the prompts differently, so words have no positions.")
        for _, target in prompts:
            placed(target, self.named())


def words_of(job: Job, named: Sequence[Sequence[str]]) -> list[list[Word]]:
    """Return the words of each object, with the token positions of its phrase in the prompts; see `placed`."""
    from sfumato.models.layout import word_layers
    from sfumato.shifts.energy.word import Word

    assert job.condition.tokens is not None
    layers, grid = word_layers(job.network.unet, job.size)
    rows, tokens = [placed(prompt, named) for prompt in job.condition.prompts], job.condition.tokens.shape[1]
    return [
        [Word(layers, grid, weights_at([row[n][k] for row in rows], tokens), name=word) for k, word in enumerate(words)]
        for n, words in enumerate(named)
    ]


def placed(prompt: Prompt, named: Sequence[Sequence[str]]) -> list[list[tuple[int, ...]]]:
    """Find the token positions of every word of every object.

    The positions of an object are those of its phrase (attributes and noun) in the prompt, except occurrences inside
    longer phrases of other objects. With the objects "red heart" and "blue heart", the noun of each refers to a
    different occurrence of "heart". An object that is named once has all occurrences of its phrase. If the same phrase
    is named n times, each of these objects has every n-th occurrence.

    Args:
        prompt: the prompt.
        named: words of each object, see `ObjectsParams.named`.

    Returns:
        Token positions by object and word.

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
                f'objects names "{phrase}" more often than "{prompt.text}" contains it outside other phrases.'
            )
    found = []
    for n, (phrase, words) in enumerate(zip(phrases, named, strict=True)):
        own = rows[phrase][phrases[:n].count(phrase) :: phrases.count(phrase)]
        each = [_split(prompt, row, words) for row in own]
        found.append([tuple(place for row in each for place in row[k]) for k in range(len(words))])
    return found


def _split(prompt: Prompt, row: range, words: Sequence[str]) -> list[list[int]]:
    """Token positions of each word in one occurrence of the phrase; the tokenizer may split the words differently."""
    found, letters = [], [k for k in row for _ in prompt.words[k].casefold()]
    for word in words:
        count = len(word.casefold())
        found.append([place for k in sorted(set(letters[:count])) for place in prompt.places[k]])
        letters = letters[count:]
    return found


def presence(job: Job, named: Sequence[Sequence[str]], *, published: bool, normalize_eot: bool = False) -> Presence:
    """Return the energy of the presence of the nouns of all objects.

    Args:
        job: the input of the method.
        named: words of each object.
        published: whether to use the loss of the code of Attend-and-Excite. Otherwise the loss is the mean over all
            objects, with the softmax over the tokens of the text only and a narrower filter.
        normalize_eot: whether the published loss also has the softmax over the tokens of the text only, as in that
            code for Stable Diffusion 2.1.
    """
    from sfumato.models.layout import word_layers
    from sfumato.shifts.energy.presence import DEVIATION, PUBLISHED_DEVIATION, Presence

    layers, grid = word_layers(job.network.unet, job.size)
    words = tuple(each[-1].target for each in words_of(job, named))
    text = text_of(job.condition)
    if not published:
        return Presence(layers, grid, words, text, False, DEVIATION)
    if not normalize_eot:
        length = text.shape[1] // job.condition.prompts[0].chunks
        text[:] = 1
        text[:, ::length] = text[:, length - 1 :: length] = 0
    return Presence(layers, grid, words, text, True, PUBLISHED_DEVIATION)


def text_of(condition: Condition) -> Float[Tensor, "b n"]:
    """Return a mask of the text tokens: 1 for tokens of words, 0 for start, end and padding tokens."""
    import torch

    assert condition.tokens is not None
    found = torch.zeros(condition.tokens.shape[:2])
    for row, prompt in zip(found, condition.prompts, strict=True):
        row[[place for places in prompt.places for place in places]] = 1
    return found
