"""CLIP tokenizers trained on the captions of a dataset: lower-cased byte-level BPE."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.files import replaced_folder
from sfumato.networks.clip_tokenizer import read_tokenizer
from sfumato.train.processes import is_first

START, END = "<|startoftext|>", "<|endoftext|>"
#: Smallest vocabulary: 256 bytes, each inside and at the end of a word, and two special tokens. Smallest context: one
#: token between the two special tokens.
LEAST_VOCABULARY, LEAST_CONTEXT = 2 * 256 + 2, 3


def train_tokenizer(captions: Iterable[str], vocabulary: int, context: int) -> CLIPTokenizer:
    """Train a CLIP tokenizer (byte-pair encoding) on captions.

    The vocabulary contains every byte, inside and at the end of a word, so every text can be tokenised.

    The result is deterministic and does not depend on the order of the captions. The tokenizers library breaks ties
    between merges by the token ids of their parts, and would number the end-of-word bytes in the random order of a hash
    table; passing all bytes as special tokens fixes their ids.

    Args:
        captions: training texts.
        vocabulary: largest number of tokens, special tokens included; at least `LEAST_VOCABULARY`.
        context: longest sequence in tokens, start and end token included; at least `LEAST_CONTEXT`.

    Raises:
        BadInput: `vocabulary` or `context` is too small.
    """
    alphabet = sorted(ByteLevel.alphabet())
    letters = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    if vocabulary < LEAST_VOCABULARY:
        raise BadInput(f"network.vocabulary must be at least {LEAST_VOCABULARY}, not {vocabulary}.")
    if context < LEAST_CONTEXT:
        raise BadInput(f"network.context must be at least {LEAST_CONTEXT}, not {context}.")
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


class Tokens:
    """Tokenise captions to token ids and attention masks, padded or truncated to the tokenizer's context.

    Args:
        tokenizer: a tokenizer with a fixed `model_max_length`.
        known: captions to tokenise in advance and cache.
    """

    def __init__(self, tokenizer: CLIPTokenizer, known: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.rows = {caption: row for row, caption in enumerate(dict.fromkeys(known))}
        self.ids, self.mask = self._tokenise(list(self.rows))
        self._words: dict[str, list[int]] = {}

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, int64 [b,context] each."""
        known = torch.tensor([caption in self.rows for caption in captions], dtype=torch.bool)
        rows = torch.tensor([self.rows[caption] for caption in captions if caption in self.rows], dtype=torch.long)
        ids, mask = torch.empty(2, len(captions), self.tokenizer.model_max_length, dtype=torch.long)
        ids[known], mask[known] = self.ids[rows], self.mask[rows]
        ids[~known], mask[~known] = self._tokenise([caption for caption in captions if caption not in self.rows])
        return ids, mask

    def of(self, words: str) -> list[int]:
        """Token ids of words inside a caption, without start and end token."""
        if words not in self._words:
            self._words[words] = self.tokenizer(words, add_special_tokens=False)["input_ids"]
        return self._words[words]

    def _tokenise(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        context = self.tokenizer.model_max_length
        if not captions:
            return (torch.empty(0, context, dtype=torch.long),) * 2
        out = self.tokenizer(captions, padding="max_length", max_length=context, truncation=True, return_tensors="pt")
        return out["input_ids"], out["attention_mask"]


def kept_tokenizer(folder: Path, started: bool, learn: Callable[[], CLIPTokenizer]) -> CLIPTokenizer:
    """Load the tokenizer of a resumed run, or create and save the tokenizer of a new one.

    Args:
        folder: folder of the run that contains only the tokenizer.
        started: whether the run has a checkpoint. Runs of older versions did not save their tokenizer; for them it is
            created again from the same captions.
        learn: creates the tokenizer.

    Raises:
        BadInput: the saved tokenizer cannot be read.
    """
    if started and folder.is_dir():
        try:
            return read_tokenizer(folder)
        except BadInput as error:
            raise BadInput(
                f"the run's tokenizer in {folder} cannot be read ({str(error).rstrip('.')}): restore it, or give this "
                "run its own folder."
            ) from error
    tokenizer = learn()
    if is_first():
        with replaced_folder(folder) as temporary:
            tokenizer.save_pretrained(temporary)
    return tokenizer


def tokenizer_fingerprint(tokenizer: CLIPTokenizer) -> str:
    """SHA-256 (hexadecimal) of the vocabulary, the merges and the context length of a tokenizer."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    known = [sorted(model["vocab"].items()), model["merges"], tokenizer.model_max_length]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _vocabulary(tokens: Iterable[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate([*tokens, START, END])}
