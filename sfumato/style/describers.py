"""The two encoders of an index, A for style and C for content, and the descriptors of images and texts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.errors import BadInput
from sfumato.models.bundled import BUNDLED
from sfumato.style import ContentEncoder, StyleEncoder
from sfumato.style.encoder import load_style_encoder

Vectors: TypeAlias = NDArray[np.float32]
MODALITIES = ("content", "style")
"""Names of the two kinds of descriptors."""
SHIPPED = {name: BUNDLED / "descriptors" / name for name in MODALITIES}
"""Folders of the default encoders, which were trained on emoji only."""


@dataclass(frozen=True, eq=False)
class Describers:
    """The encoders of an index.

    Attributes:
        content: the content encoder C.
        style: the style encoder A.
    """

    content: ContentEncoder
    style: StyleEncoder

    @classmethod
    def load(
        cls,
        content: str | os.PathLike[str] | None = None,
        style: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
    ) -> "Describers":
        """Load the encoders; by default the bundled ones.

        Args:
            content: folder or hub id of a CLIP.
            style: file or folder of a style encoder.
            device: device of both encoders.

        Raises:
            BadInput: an encoder cannot be loaded.
        """
        chosen = ContentEncoder.load(content or SHIPPED["content"], device)
        return cls(chosen, load_style_encoder(style or SHIPPED["style"]).on(device))

    def of(self, modality: str) -> ContentEncoder | StyleEncoder:
        """The encoder of a modality, "content" or "style"."""
        return self.content if modality == "content" else self.style

    @property
    def sizes(self) -> tuple[int, int]:
        """Sides in pixels of the inputs of C and A."""
        return self.content.size, self.style.size

    def images(self, modality: str, squares: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Unit descriptors [n,d] of square images uint8 [3,s,s]."""
        pixels = torch.from_numpy(np.stack(squares)).float() / 255
        return self.of(modality).image_features(pixels).cpu().numpy()

    def texts(self, modality: str, texts: Sequence[str]) -> Vectors:
        """Unit descriptors [n,d] of texts: captions for the content, style words for the style. Raises BadInput."""
        for text in texts:
            if not text.strip():
                raise BadInput(f"The {modality} text is empty: give words, or leave it out.")
        return self.of(modality).text_features(list(texts)).cpu().numpy()
