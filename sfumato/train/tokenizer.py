"""A CLIP tokenizer of our own: lower-cased byte-level BPE, learned from the captions of the corpus."""

import json
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from sfumato.errors import BadInput

START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(captions: Iterable[str], vocabulary: int, context: int) -> CLIPTokenizer:
    """Learn byte-pair merges from captions.

    Every byte has a token, alone and at the end of a word, so no text is ever unknown. The same captions give the same
    tokenizer, in any process and order: the library breaks ties between merges by the numbers of their parts, and would
    number the bytes that end a word in the random order of a hash table, so they are given to it as known.

    Args:
        captions: the texts to learn from.
        vocabulary: upper bound on the number of tokens, specials included.
        context: longest sequence of the model, start and end token included.

    Raises:
        BadInput: the vocabulary has no room for the bytes, or the context none for a word.
    """
    alphabet = sorted(ByteLevel.alphabet())
    letters = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    if vocabulary < len(letters) + 2:
        raise BadInput(f"network.vocabulary must be at least {len(letters) + 2}, not {vocabulary}.")
    if context < 3:
        raise BadInput(f"network.context must be at least 3, not {context}.")
    blank = CLIPTokenizer(vocab=_vocabulary(letters), merges=[], model_max_length=context)
    backend = blank.backend_tokenizer
    trainer = BpeTrainer(
        vocab_size=vocabulary - 2, special_tokens=letters, end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(captions, trainer)
    model = json.loads(backend.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    tokens = [*letters, *("".join(pair) for pair in merges)]
    return CLIPTokenizer(vocab=_vocabulary(dict.fromkeys(tokens)), merges=merges, model_max_length=context)


def _vocabulary(tokens: Iterable[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate([*tokens, START, END])}
