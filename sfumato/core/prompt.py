"""A prompt as the tokenizer splits it, with the token positions of every word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sfumato.errors import BadInput


@dataclass(frozen=True)
class Prompt:
    """One tokenised prompt.

    Attributes:
        text: the prompt as the user wrote it.
        ids: token ids: start, the text's tokens, end; without padding.
        words: words and punctuation marks as the tokenizer splits them, in the user's spelling.
        places: for every word, the positions of its tokens in `ids`, which are also their positions among the keys of
            cross-attention.
        plain: the text without prompt weights such as "(word:1.4)", for networks that do not support them.
        chunks: number of chunks of the context, each with its own start, end and padding tokens.
    """

    text: str
    ids: tuple[int, ...]
    words: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    plain: str
    chunks: int = 1

    def has(self, phrase: str) -> bool:
        """Whether the prompt contains the phrase, one or several consecutive words; case is ignored."""
        return bool(self.occurrences(phrase))

    def positions(self, phrase: str) -> tuple[int, ...]:
        """Return the token positions of all occurrences of the phrase.

        Raises:
            BadInput: the phrase is not in the prompt; the message lists the words of the prompt.
        """
        found = self.occurrences(phrase)
        if not found:
            raise BadInput(f'"{phrase}" is not in the prompt "{self.text}": its words are {self.listed()}.')
        return tuple(place for word in sorted({word for row in found for word in row}) for place in self.places[word])

    def occurrences(self, phrase: str) -> list[range]:
        """Return the word indices of every occurrence of the phrase, in order; spaces and case are ignored."""
        wanted = "".join(phrase.split()).casefold()
        words = [word.casefold() for word in self.words]
        return [row for i in range(len(words)) for row in _rows_from(i, words, wanted)] if wanted else []

    def listed(self) -> str:
        """Return the words in quotes, separated by commas, for error messages."""
        return ", ".join(f'"{word}"' for word in self.words) or "none"


def _rows_from(start: int, words: Sequence[str], wanted: str) -> Iterator[range]:
    """Yield the rows of consecutive words, the first of which is word `start`, that are the wanted text together."""
    rest = wanted
    for end in range(start, len(words)):
        if not rest.startswith(words[end]):
            return
        rest = rest[len(words[end]) :]
        if not rest:
            yield range(start, end + 1)
