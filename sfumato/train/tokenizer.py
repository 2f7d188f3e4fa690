"""A CLIP tokenizer of our own: lower-cased byte-level BPE, learned from the captions of the corpus."""

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
#: Every byte, alone and at the end of a word, and the two specials; the two specials and a word.
LEAST_VOCABULARY, LEAST_CONTEXT = 2 * 256 + 2, 3


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
    """Token ids and masks of captions, padded to the tokenizer's context; what is too long loses its end.

    Args:
        tokenizer: as trained here.
        known: captions that will be asked for often; they are tokenised once.
    """

    def __init__(self, tokenizer: CLIPTokenizer, known: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.rows = {caption: row for row, caption in enumerate(dict.fromkeys(known))}
        self.ids, self.mask = self._tokenise(list(self.rows))

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask, int64 [b,context] each."""
        known = torch.tensor([caption in self.rows for caption in captions], dtype=torch.bool)
        rows = torch.tensor([self.rows[caption] for caption in captions if caption in self.rows], dtype=torch.long)
        ids, mask = torch.empty(2, len(captions), self.tokenizer.model_max_length, dtype=torch.long)
        ids[known], mask[known] = self.ids[rows], self.mask[rows]
        ids[~known], mask[~known] = self._tokenise([caption for caption in captions if caption not in self.rows])
        return ids, mask

    def _tokenise(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        context = self.tokenizer.model_max_length
        if not captions:
            return (torch.empty(0, context, dtype=torch.long),) * 2
        out = self.tokenizer(captions, padding="max_length", max_length=context, truncation=True, return_tensors="pt")
        return out["input_ids"], out["attention_mask"]


def kept_tokenizer(folder: Path, started: bool, learn: Callable[[], CLIPTokenizer]) -> CLIPTokenizer:
    """The tokenizer in `folder`, where a run keeps it; a run that has not begun learns one and puts it there.

    Args:
        folder: it alone lies there.
        started: the run has a checkpoint. If it is of before tokenizers were kept, the same is learned once more.
        learn: what makes it.

    Raises:
        BadInput: the kept one cannot be read.
    """
    if started and folder.is_dir():
        try:
            return read_tokenizer(folder)
        except BadInput as error:
            raise BadInput(
                f"the run's tokenizer in {folder} cannot be read ({str(error).rstrip('.')}): put it back, or give this "
                "run its own folder."
            ) from error
    tokenizer = learn()
    if is_first():
        with replaced_folder(folder) as beside:
            tokenizer.save_pretrained(beside)
    return tokenizer


def tokenizer_fingerprint(tokenizer: CLIPTokenizer) -> str:
    """SHA-256, in hexadecimal, of the vocabulary, the merges and the context."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    known = [sorted(model["vocab"].items()), model["merges"], tokenizer.model_max_length]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _vocabulary(tokens: Iterable[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate([*tokens, START, END])}
