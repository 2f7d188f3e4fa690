"""Metrics that compare images with texts in the joint feature space of a dual encoder (CLIP)."""

from jaxtyping import Float
from torch import Tensor

from sfumato.metrics.checks import where_defined
from sfumato.metrics.direction import differ, directional_similarity
from sfumato.metrics.edit_batch import EditBatch
from sfumato.metrics.registry import metric

_TARGET = ("dual encoder", "target text")
_BOTH = (*_TARGET, "source text")


@metric("clip", help="CLIP similarity of edit and target text", better="higher", needs=_TARGET)
def to_target(batch: EditBatch) -> Float[Tensor, " b"]:
    """CLIP similarity: cosine of the features of the edited image and the target text, in [-1, 1]."""
    return cosine(batch.edit_features, batch.target_text_features)


@metric(
    "clip_region", help="CLIP similarity of edit, black outside the mask, and target text", better="higher",
    needs=(*_TARGET, "mask"),
)  # fmt: skip
def region_to_target(batch: EditBatch) -> Float[Tensor, " b"]:
    """CLIP similarity of the edited image, black outside the mask, in [-1, 1]; NaN for an empty mask."""
    some = (batch.mask.flatten(1).sum(1) > 0).cpu()
    return where_defined(some, cosine, batch.region_features, batch.target_text_features)


@metric(
    "clip_margin", help="CLIP similarity to the target text minus that to the source text", better="higher",
    needs=_BOTH,
)  # fmt: skip
def margin(batch: EditBatch) -> Float[Tensor, " b"]:
    """CLIP similarity of the edited image to the target text minus that to the source text, in [-2, 2]."""
    return to_target(batch) - cosine(batch.edit_features, batch.source_text_features)


@metric("clip_nearer", help="1 if the target text is nearer than the source text, else 0", better="higher", needs=_BOTH)
def nearer(batch: EditBatch) -> Float[Tensor, " b"]:
    """1 if the edited image is more similar to the target text than to the source text, else 0."""
    return (margin(batch) > 0).double()


@metric(
    "clip_direction", help="CLIP directional similarity of the changes of image and text", better="higher", needs=_BOTH
)
def direction(batch: EditBatch) -> Float[Tensor, " b"]:
    """CLIP directional similarity, in [-1, 1]; NaN where both texts are the same. See `directional_similarity`."""
    images = batch.source_features, batch.edit_features
    texts = batch.source_text_features, batch.target_text_features
    return where_defined(differ(*texts), directional_similarity, *images, *texts)


def cosine(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Cosine similarity of unit features, float64 on the CPU, since MPS does not support float64."""
    return (a.cpu().double() * b.cpu().double()).sum(-1)
