"""Whether a tokenizer belongs to its text encoder: a wrong one is silent, every prompt is then read as another."""

from typing import Any

#: Embeddings are padded at most to a multiple of this; what a tokenizer lacks beyond that are words.
PADDING = 128


def vocabulary_problem(tokenizer: Any, embeddings: int) -> str:
    """What is wrong between a tokenizer and a text encoder with so many embeddings, as a clause; "" if nothing is.

    Tokens that were added to both (textual inversion) are right, and so is a table padded to a round number of rows.
    A folder without vocab.json and merges.txt gives a tokenizer of two tokens, for which all words are one.
    """
    numbers = tokenizer.get_vocab()
    if embeddings - len(numbers) >= PADDING:
        return (
            f"its tokenizer knows {len(numbers)} tokens and its text encoder {embeddings}, "
            "so vocab.json and merges.txt are missing or another model's"
        )
    word, last = max(numbers.items(), key=lambda item: item[1])
    if last >= embeddings:
        return f'its tokenizer gives "{word}" the number {last} and its text encoder knows 0 to {embeddings - 1} alone'
    return ""
