"""The metrics that compare images with texts in the feature space of a dual encoder (CLIP)."""

from jaxtyping import Float
from torch import Tensor

from sfumato.metrics.checks import where_defined
from sfumato.metrics.direction import differ, directional_similarity
from sfumato.metrics.edit_batch import EditBatch
from sfumato.metrics.registry import metric

_TARGET = ("dual encoder", "target text")
_BOTH = (*_TARGET, "source text")


@metric("clip", help="cosine of the edit with the target text", better="higher", needs=_TARGET)
def to_target(batch: EditBatch) -> Float[Tensor, " b"]:
    """In [-1, 1]."""
    return cosine(batch.edit_features, batch.target_text_features)


@metric(
    "clip_region", help="cosine of the edit, black outside the mask, with the target text", better="higher",
    needs=(*_TARGET, "mask"),
)  # fmt: skip
def region_to_target(batch: EditBatch) -> Float[Tensor, " b"]:
    """In [-1, 1]; NaN for an empty mask."""
    some = (batch.mask.flatten(1).sum(1) > 0).cpu()
    return where_defined(some, cosine, batch.region_features, batch.target_text_features)


@metric("clip_margin", help="cosine with the target text less that with the source text", better="higher", needs=_BOTH)
def margin(batch: EditBatch) -> Float[Tensor, " b"]:
    """In [-2, 2]."""
    return to_target(batch) - cosine(batch.edit_features, batch.source_text_features)


@metric("clip_nearer", help="1 where the target text is nearer than the source text", better="higher", needs=_BOTH)
def nearer(batch: EditBatch) -> Float[Tensor, " b"]:
    """0 or 1."""
    return (margin(batch) > 0).double()


@metric("clip_direction", help="cosine of the change of image with the change of text", better="higher", needs=_BOTH)
def direction(batch: EditBatch) -> Float[Tensor, " b"]:
    """In [-1, 1]; NaN where both texts are the same. See `directional_similarity`."""
    images = batch.source_features, batch.edit_features
    texts = batch.source_text_features, batch.target_text_features
    return where_defined(differ(*texts), directional_similarity, *images, *texts)


def cosine(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Of unit features; float64, so on the CPU: MPS has none."""
    return (a.cpu().double() * b.cpu().double()).sum(-1)
