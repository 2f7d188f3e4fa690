"""A batch of edits, and everything beside the images that a metric can be computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.metrics.perceptual import PerceptualDistance
from sfumato.metrics.text import DualEncoder
from sfumato.metrics.vision import VisionEncoder

NETWORKS = ("perceptual network", "structure network", "dual encoder")
"""The networks of an evaluator."""
INPUTS = ("mask", "target image", "target text", "source text")
"""What a caller may know about an edit beside the source image."""
NEEDS = (*NETWORKS, *INPUTS)
"""What a metric may need beside the source and the edited image."""


@dataclass(frozen=True, eq=False)
class EditBatch:
    """Source and edited images [b,3,h,w] in [0,1], with what else is known of them.

    The attributes other than the two images raise BadInput where the batch lacks them. Features of the dual encoder
    have unit length and are computed once for all metrics.

    Attributes:
        source: images before the edit.
        edit: images after the edit.
        known: the inputs and networks, by their names in `NEEDS`.
    """

    source: Float[Tensor, "b 3 h w"]
    edit: Float[Tensor, "b 3 h w"]
    known: Mapping[str, Any]

    @property
    def mask(self) -> Float[Tensor, "b h w"]:
        """1 where the image was to change, in [0,1]."""
        return self._get("mask")

    @property
    def target(self) -> Float[Tensor, "b 3 h w"]:
        """The images that the edits should have given, in [0,1]."""
        return self._get("target image")

    @property
    def source_texts(self) -> Sequence[str]:
        """A prompt for each source image."""
        return self._get("source text")

    @property
    def target_texts(self) -> Sequence[str]:
        """A prompt for each edited image."""
        return self._get("target text")

    @property
    def perceptual_network(self) -> PerceptualDistance:
        """The distance of LPIPS."""
        return self._get("perceptual network")

    @property
    def structure_network(self) -> VisionEncoder:
        """The vision transformer whose keys the structure distance compares."""
        return self._get("structure network")

    @property
    def dual_encoder(self) -> DualEncoder:
        """Compares images with texts."""
        return self._get("dual encoder")

    @cached_property
    def source_features(self) -> Float[Tensor, "b d"]:
        """Of the source images."""
        return self.dual_encoder.image_features(self.source)

    @cached_property
    def edit_features(self) -> Float[Tensor, "b d"]:
        """Of the edited images."""
        return self.dual_encoder.image_features(self.edit)

    @cached_property
    def region_features(self) -> Float[Tensor, "b d"]:
        """Of the edited images with all pixels outside the mask black."""
        return self.dual_encoder.image_features(self.edit * self.mask[:, None])

    @cached_property
    def source_text_features(self) -> Float[Tensor, "b d"]:
        """Of the prompts of the source images."""
        return self.dual_encoder.text_features(self.source_texts)

    @cached_property
    def target_text_features(self) -> Float[Tensor, "b d"]:
        """Of the prompts of the edited images."""
        return self.dual_encoder.text_features(self.target_texts)

    def _get(self, need: str) -> Any:
        if need not in self.known:
            raise BadInput(f"this batch has no {need}: a metric that uses one must list it in its needs.")
        return self.known[need]
