"""The content encoder C: the image encoder of a CLIP, whose text encoder puts captions into the same space.

`sfumato train content` trains a small one that ignores the style. Any CLIP folder of transformers can be used instead.
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
"""Settings of both encoders of which the shapes of the weights say nothing."""


@dataclass(frozen=True, eq=False)
class ContentEncoder:
    """A dual encoder whose features describe what an image shows.

    Attributes:
        clip: the dual encoder.
    """

    clip: DualEncoder

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str | torch.device | None = None) -> "ContentEncoder":
        """Load it from a CLIP folder or a hub id that the user gave. Raises BadInput."""
        return cls(DualEncoder.load(local_folder(folder), device))

    @property
    def dimension(self) -> int:
        """d, the length of a descriptor."""
        return int(self.clip.model.config.projection_dim)

    @property
    def size(self) -> int:
        """Side in pixels of its input."""
        return int(self.clip.model.config.vision_config.image_size)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, architecture, preprocessor and tokenizer: only then are descriptors comparable."""
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
        """Unit descriptors of images in [-1, 1]; gradients pass if they are enabled."""
        inputs = self.clip.preprocessor((x.clamp(-1, 1) + 1) / 2)
        return F.normalize(self.clip.embed(inputs).float(), dim=-1)
