"""A loaded model with the dual encoder for metrics: the base class of `sfumato.api.model.Model`."""

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from sfumato.api.settings import check_settings
from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided, classifier_free
from sfumato.metrics import DualEncoder
from sfumato.models.conditioning import with_inputs
from sfumato.models.diffusion_model import DiffusionModel

KEPT = 16
"""Maximum number of lists of encoded prompts in the cache."""


class Loaded:
    """A diffusion model with its dual encoder.

    Attributes:
        network: the denoising network with its autoencoder and text encoders.
        folder: the folder that it was loaded from, or None. If it contains a folder `dual_encoder`, that network
            computes the text similarities in reports.

    Raises:
        BadInput: `sfumato.json` of the model contains invalid defaults.
    """

    def __init__(self, network: DiffusionModel, folder: Path | None = None) -> None:
        check_settings(network.settings, network.name)
        self.network = network
        self.folder = folder
        self._with_dual_encoder = threading.RLock()
        self._with_conditions = threading.RLock()
        self._conditions: dict[Any, Condition] = {}

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Self:
        """Move the model to a device and set its precision, in place; None keeps the current value.

        Existing inversions are not moved. To use them afterwards, save and open them, or invert again.

        Args:
            device: "cpu", "cuda", "cuda:1" or "mps".
            dtype: precision of the U-Net and the text encoders: "fp32", "bf16" or "fp16"; latents are always float32.

        Returns:
            The model itself.

        Raises:
            BadInput: the device or precision is not available.
        """
        with self._with_dual_encoder, self._with_conditions:
            self.network.to(device, dtype)
            self._conditions.clear()
            self.__dict__.pop("_dual_encoder", None)
        return self

    def plain(self, texts: Sequence[str]) -> list[str]:
        """Remove prompt weights such as "(word:1.4)" from texts if the model supports them.

        The result is the input of networks that compute metrics.
        """
        encoders = self.network.text_encoders
        return [encoders[0].plain(text) for text in texts] if encoders else list(texts)

    @property
    def dual_encoder(self) -> DualEncoder | None:
        """CLIP of the model folder, for text similarities in reports; None if the folder has no `dual_encoder`."""
        with self._with_dual_encoder:
            return self._dual_encoder

    def text_features(self, texts: Sequence[str]) -> Tensor | None:
        """Compute features of texts, [b,d], by the dual encoder.

        Returns:
            The features; None without a dual encoder, for a model without text input, or if a text is too long for the
            dual encoder (`too_long`).

        Raises:
            BadInput: as `DualEncoder.text_features`.
        """
        encoder = self.dual_encoder
        if encoder is None or not self.network.takes_text or self.too_long(texts):
            return None
        return encoder.text_features(self.plain(texts))

    def too_long(self, texts: Sequence[str]) -> list[str]:
        """Return notes on texts that have more tokens than the dual encoder reads, so that there is no similarity."""
        encoder = self.dual_encoder
        counts = [] if encoder is None or not texts else encoder.token_counts(self.plain(texts))
        return [
            f"No similarity: the prompt has {count} tokens, and the dual encoder reads at most {encoder.context}."
            for count in dict.fromkeys(counts)
            if encoder is not None and count > encoder.context
        ]

    def condition(self, prompts: Sequence[str], size: tuple[int, int], extra: Condition | None = None) -> Condition:
        """Return a condition with one row per prompt, for images of `size` (height, width) in pixels.

        The latest encoded prompts are cached, so that plans with the same prompts encode them once. Threads that encode
        the same prompts concurrently do not block each other; all of them return what was cached first.

        Args:
            prompts: the prompts.
            size: (height, width) of the images in pixels.
            extra: maps, labels and tokens (`sfumato.api.extra`), one row per prompt.
        """
        encoded = self._encoded(prompts, size)
        return encoded if extra is None else self.with_extra(encoded, extra)

    def with_extra(self, condition: Condition, extra: Condition) -> Condition:
        """Return a condition with the maps, labels and tokens of `extra`, which has the same number of rows."""
        return with_inputs(self.network, condition, extra.maps, extra.labels, extra.tokens)

    def _encoded(self, prompts: Sequence[str], size: tuple[int, int]) -> Condition:
        """The prompts as a condition, from the cache if possible; see `condition`."""
        read = tuple((each.weighted, each.chunks) for each in self.network.text_encoders)
        key = (tuple(prompts), size, read, self.network.revision())
        with self._with_conditions:
            known = self._conditions.get(key)
        if known is not None:
            return known
        made = self.network.text_condition(list(prompts), size=size)
        with self._with_conditions:
            stored = self._conditions.setdefault(key, made)
            while len(self._conditions) > KEPT:
                self._conditions.pop(next(iter(self._conditions)))
        return stored

    def guided(
        self,
        scales: Sequence[float],
        size: tuple[int, int],
        negative_prompt: str = "",
        extra: Condition | None = None,
    ) -> Guided:
        """Return the network with classifier-free guidance.

        Args:
            scales: guidance scale, one per row.
            size: (height, width) of the images in pixels.
            negative_prompt: the negative prompt; ignored for a model without text input.
            extra: maps, labels and tokens of the images, one row each, also used for the negative prediction.
        """
        texts = [negative_prompt] * len(scales)
        negative = self.condition(texts, size, extra) if self.network.takes_text else None
        return classifier_free(self.network, negative, [float(scale) for scale in scales])

    @cached_property
    def _dual_encoder(self) -> DualEncoder | None:
        if self.folder is None or not (self.folder / "dual_encoder").is_dir():
            return None
        return DualEncoder.load(self.folder / "dual_encoder", self.network.device)
