"""The content encoder C: the image encoder of a CLIP, whose text encoder maps captions to the same space.

`sfumato train content` trains a small model whose features depend little on the style. Any CLIP folder of transformers
can be used instead.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.metrics.frozen import local_folder
from sfumato.metrics.text import DualEncoder
from sfumato.style.fingerprints import fingerprint_of

_UNSEEN = ("hidden_act", "num_attention_heads", "layer_norm_eps")
"""Settings of both encoders that affect the descriptors but not the shapes of the weights."""


@dataclass(frozen=True, eq=False)
class ContentEncoder:
    """A dual encoder whose features describe the content of an image.

    Attributes:
        clip: the dual encoder.
    """

    clip: DualEncoder

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str | torch.device | None = None) -> "ContentEncoder":
        """Load a CLIP from a folder or a hub id. Raises BadInput if that fails."""
        return cls(DualEncoder.load(local_folder(folder), device))

    @property
    def dimension(self) -> int:
        """d, the length of a descriptor."""
        return int(self.clip.model.config.projection_dim)

    @property
    def size(self) -> int:
        """Side of the encoder's input in pixels."""
        return int(self.clip.model.config.vision_config.image_size)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, architecture, preprocessor and tokenizer; equal if descriptors are comparable."""
        known = json.loads(self.clip.tokenizer.backend_tokenizer.to_str())
        model, config = known["model"], self.clip.model.config
        parts = {"text": config.text_config, "image": config.vision_config}
        settings = {
            "preprocessor": asdict(self.clip.preprocessor),
            "tokenizer": [sorted(model["vocab"].items()), model["merges"], known["normalizer"]],
            **{name: [getattr(part, each) for each in _UNSEEN] for name, part in parts.items()},
            "end": config.text_config.eos_token_id,
        }
        return fingerprint_of(self.clip.model, settings)

    def image_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit descriptors, float32, of images in [0, 1]. Raises BadInput and NonFinite as `DualEncoder`."""
        return self.clip.image_features(pixels)

    def text_features(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit descriptors of captions. Raises BadInput for a text that is too long."""
        return self.clip.text_features(texts)

    def embed(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit descriptors of images in [-1, 1]; differentiable if gradients are enabled."""
        inputs = self.clip.preprocessor((x.clamp(-1, 1) + 1) / 2)
        return F.normalize(self.clip.embed(inputs).float(), dim=-1)
