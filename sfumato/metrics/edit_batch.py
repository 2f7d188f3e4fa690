"""A batch of edits with all inputs and networks that a metric can use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.metrics.perceptual import PerceptualDistance
from sfumato.metrics.text import DualEncoder
from sfumato.metrics.vision import VisionEncoder

NETWORKS = ("perceptual network", "structure network", "dual encoder")
"""The networks of an evaluator."""
INPUTS = ("mask", "target image", "target text", "source text", "style image", "style encoder")
"""Optional inputs of an edit, in addition to the source and the edited image; "style encoder" is a network."""
NEEDS = (*NETWORKS, *INPUTS)
"""Everything that a metric can require in addition to the source and the edited image."""


@runtime_checkable
class ImageEncoder(Protocol):
    """A network that describes images, such as a `sfumato.style.StyleEncoder`."""

    def image_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit features of images in [0, 1]."""


@dataclass(frozen=True, eq=False)
class EditBatch:
    """Source and edited images with the optional inputs and the networks that metrics use.

    Properties other than the two images raise BadInput if the batch does not contain them. Features of the dual encoder
    have unit length and are computed once for all metrics.

    Attributes:
        source: images before the edit, [b,3,h,w] in [0,1].
        edit: images after the edit, [b,3,h,w] in [0,1].
        known: the available inputs and networks, by their names in `NEEDS`.
    """

    source: Float[Tensor, "b 3 h w"]
    edit: Float[Tensor, "b 3 h w"]
    known: Mapping[str, Any]

    @property
    def mask(self) -> Float[Tensor, "b h w"]:
        """Mask in [0,1]; 1 in the region that the edit should change."""
        return self._get("mask")

    @property
    def target(self) -> Float[Tensor, "b 3 h w"]:
        """Ground truth of the edits, in [0,1]."""
        return self._get("target image")

    @property
    def source_texts(self) -> Sequence[str]:
        """The prompt of each source image."""
        return self._get("source text")

    @property
    def target_texts(self) -> Sequence[str]:
        """The prompt describing each edited image."""
        return self._get("target text")

    @property
    def style(self) -> Sequence[Float[Tensor, "3 _ _"]]:
        """The style image of each edit, in [0,1], of any size."""
        return self._get("style image")

    @property
    def style_encoder(self) -> ImageEncoder:
        """The encoder of style descriptors."""
        return self._get("style encoder")

    @property
    def perceptual_network(self) -> PerceptualDistance:
        """The LPIPS network."""
        return self._get("perceptual network")

    @property
    def structure_network(self) -> VisionEncoder:
        """The vision transformer of the structure distance."""
        return self._get("structure network")

    @property
    def dual_encoder(self) -> DualEncoder:
        """The dual encoder (CLIP) that compares images with texts."""
        return self._get("dual encoder")

    @cached_property
    def source_features(self) -> Float[Tensor, "b d"]:
        """Unit features of the source images."""
        return self.dual_encoder.image_features(self.source)

    @cached_property
    def edit_features(self) -> Float[Tensor, "b d"]:
        """Unit features of the edited images."""
        return self.dual_encoder.image_features(self.edit)

    @cached_property
    def region_features(self) -> Float[Tensor, "b d"]:
        """Unit features of the edited images with all pixels outside the mask black."""
        return self.dual_encoder.image_features(self.edit * self.mask[:, None])

    @cached_property
    def source_text_features(self) -> Float[Tensor, "b d"]:
        """Unit features of the source prompts."""
        return self.dual_encoder.text_features(self.source_texts)

    @cached_property
    def target_text_features(self) -> Float[Tensor, "b d"]:
        """Unit features of the target prompts."""
        return self.dual_encoder.text_features(self.target_texts)

    def _get(self, need: str) -> Any:
        if need not in self.known:
            raise BadInput(f"this batch has no {need}: list it in the `needs` of the metric that uses it.")
        return self.known[need]
