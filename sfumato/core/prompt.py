"""A prompt as a tokenizer splits it: which tokens stand for which words."""

from dataclasses import dataclass

from sfumato.errors import BadInput


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        text: as the user wrote it.
        ids: token ids: start, the text's tokens, end; without padding.
        words: what the tokenizer takes for words, punctuation too, in the user's letters.
        places: for every word the positions of its tokens among `ids`, and so among cross-attention's keys.
    """

    text: str
    ids: tuple[int, ...]
    words: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]

    def has(self, phrase: str) -> bool:
        """Whether the phrase, one word or several in a row, is in the prompt; upper and lower case are one."""
        return bool(self._found(phrase))

    def positions(self, phrase: str) -> tuple[int, ...]:
        """The positions of the phrase's tokens, wherever it occurs.

        Raises:
            BadInput: it is not in the prompt; lists the words that are.
        """
        found = self._found(phrase)
        if not found:
            raise BadInput(f'"{phrase}" is not in the prompt "{self.text}": its words are {self.listed()}.')
        return tuple(place for word in found for place in self.places[word])

    def listed(self) -> str:
        """The words for a message."""
        return ", ".join(f'"{word}"' for word in self.words) or "none"

    def _found(self, phrase: str) -> list[int]:
        """Indices of the words that are part of an occurrence: a row of words that reads like it, spaces aside."""
        wanted = "".join(phrase.split()).casefold()
        words = [word.casefold() for word in self.words]
        rows = [range(i, j) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
        return sorted({word for row in rows if wanted and "".join(words[k] for k in row) == wanted for word in row})
