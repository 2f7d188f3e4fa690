"""Check that a tokenizer belongs to its text encoder; a wrong one raises no error but encodes prompts wrongly."""

from typing import Any

#: Embedding tables are padded to multiples of at most this; if more tokens are missing, the vocabulary is incomplete.
PADDING = 128


def vocabulary_problem(tokenizer: Any, embeddings: int) -> str:
    """Describe a mismatch between a tokenizer and its text encoder, as a clause of an error message; "" if they match.

    Tokens added to both (textual inversion) are accepted, and so is an embedding table padded to a round number of
    rows. A folder without vocab.json and merges.txt gives a tokenizer of two tokens, which maps all words to one token.

    Args:
        tokenizer: a tokenizer of transformers.
        embeddings: number of rows of the token embedding of the text encoder.
    """
    numbers = tokenizer.get_vocab()
    if embeddings - len(numbers) >= PADDING:
        return (
            f"its tokenizer has {len(numbers)} tokens and its text encoder {embeddings}, "
            "so vocab.json and merges.txt are missing or belong to another model"
        )
    word, last = max(numbers.items(), key=lambda item: item[1])
    if last >= embeddings:
        return f'its tokenizer gives "{word}" the id {last}, but the ids of its text encoder are 0 to {embeddings - 1}'
    return ""
