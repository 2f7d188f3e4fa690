"""Features of images and texts in the joint space of a dual encoder (CLIP, Radford et al. 2021)."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.metrics.checks import check_rgb
from sfumato.metrics.frozen import load_frozen
from sfumato.networks.clip_tokenizer import read_tokenizer
from sfumato.networks.preprocessor import Preprocessor, read_preprocessor
from sfumato.text_files import check_text
from sfumato.vocabulary import vocabulary_problem

BATCH = 64


@dataclass(frozen=True, eq=False)
class DualEncoder:
    """An image encoder and a text encoder with a joint feature space, such as CLIP.

    Thread-safe. Only calls of the tokenizer are serialised, because every call sets the tokenizer's padding and
    truncation.
    """

    model: CLIPModel
    tokenizer: CLIPTokenizer
    preprocessor: Preprocessor
    _tokenising: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str | torch.device | None = None) -> "DualEncoder":
        """Load a transformers CLIPModel with its tokenizer and preprocessor_config.json from a local folder.

        Nothing is downloaded and no pickle is opened.

        Raises:
            BadInput: the folder does not contain a usable model; the message names the folder or the file.
        """
        path = Path(folder)
        if not path.is_dir():
            raise BadInput(f"{path} is not a folder: give a folder with a CLIP model in transformers' layout.")
        preprocessor, tokenizer = read_preprocessor(path), read_tokenizer(path)
        model = load_frozen(CLIPModel, path, dtype=None)
        problem = vocabulary_problem(tokenizer, model.text_model.get_input_embeddings().num_embeddings)
        if problem:
            raise BadInput(f"{path} cannot be used: {problem}; download the folder again.")
        return cls(model.to(device or "cpu"), tokenizer, preprocessor)

    @torch.no_grad()
    def image_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit features, float32, of images in [0, 1] of any size.

        Raises:
            BadInput: other values or shapes.
            NonFinite: an image contains NaN or infinity.
        """
        check_rgb(pixels)
        parts = [self.embed(self.preprocessor(part.to(self.model.device))) for part in pixels.split(BATCH)]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def embed(self, inputs: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Unnormalised features of preprocessed images; differentiable if gradients are enabled."""
        # In transformers 5 the projected feature is the `pooler_output` of the returned object.
        return self.model.get_image_features(inputs.to(self.model.dtype)).pooler_output

    def check_texts(self, texts: Sequence[str]) -> None:
        """Check texts without encoding them, so that callers can do so before expensive work.

        Raises:
            BadInput: there is no text, or one has more tokens than the text encoder accepts.
        """
        if isinstance(texts, str) or not len(texts):
            raise BadInput("a list of at least one text is needed.")
        for text, count in zip(texts, self.token_counts(texts), strict=True):
            if count > self.context:
                raise BadInput(
                    f"{text[:40]!r}... has {count} tokens and the dual encoder accepts at most {self.context}: "
                    "shorten it, or give another CLIP."
                )

    @property
    def context(self) -> int:
        """Largest number of tokens of a text."""
        return int(self.model.config.text_config.max_position_embeddings)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of every text, which may exceed `context`. Raises BadInput for an invalid text."""
        for text in texts:
            check_text(text, "The text")
        return [len(ids) for ids in self._tokens(texts, verbose=False).input_ids]

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit features of the texts, float32. Raises BadInput as `check_texts`."""
        self.check_texts(texts)
        parts = []
        for start in range(0, len(texts), BATCH):
            some = texts[start : start + BATCH]
            tokens = self._tokens(some, padding="max_length", max_length=self.context, return_tensors="pt")
            tokens = tokens.to(self.model.device)
            parts.append(self.model.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output)
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def _tokens(self, texts: Sequence[str], **options: Any) -> Any:
        with self._tokenising:
            return self.tokenizer(list(texts), **options)

    def score(self, pixels: Float[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, " b"]:
        """CLIP similarity: cosine in [-1, 1] of each image with its own text.

        Raises BadInput and NonFinite as `image_features` and `text_features`.
        """
        if len(texts) != len(pixels):
            raise BadInput(f"one text for each image is needed, not {len(texts)} for {len(pixels)}.")
        return (self.image_features(pixels) * self.text_features(texts)).sum(dim=-1)
