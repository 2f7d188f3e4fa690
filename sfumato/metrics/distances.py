"""Metrics that compare the edited image with another image: MSE, PSNR, SSIM, LPIPS and the structure distance.

The first four have three variants each: `mse` compares with the source, `outside_mse` with the source outside the
mask, and `target_mse` with the target image.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sfumato.metrics.checks import where_defined
from sfumato.metrics.edit_batch import EditBatch
from sfumato.metrics.pairs import WINDOW, mse, psnr, ssim
from sfumato.metrics.perceptual import lpips
from sfumato.metrics.registry import metric
from sfumato.metrics.structure import structure_distance

#: Batch -> distance function of (images, images, mask), such as `sfumato.metrics.mse`.
Distance = Callable[[EditBatch], Callable[[Tensor, Tensor, Tensor], Tensor]]
#: Pixel weights [b,h,w] -> whether the distance is defined for each edit, bool [b].
Defined = Callable[[Tensor], Tensor]
#: Batch -> reference images [b,3,h,w] and pixel weights [b,h,w].
Reference = Callable[[EditBatch], tuple[Tensor, Tensor]]


def _everywhere(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    return torch.ones_like(images[:, 0])


#: Prefix of the metric's name -> end of its help text, additional needs, reference.
REFERENCES: dict[str, tuple[str, tuple[str, ...], Reference]] = {
    "": ("to the source", (), lambda batch: (batch.source, _everywhere(batch.source))),
    "outside_": ("to the source outside the mask", ("mask",), lambda batch: (batch.source, 1 - batch.mask)),
    "target_": ("to the target image", ("target image",), lambda batch: (batch.target, _everywhere(batch.target))),
}


def _has_area(weight: Float[Tensor, "b h w"]) -> Bool[Tensor, " b"]:
    return weight.flatten(1).sum(1) > 0


def _has_window(weight: Float[Tensor, "b h w"]) -> Bool[Tensor, " b"]:
    """Whether the centre of at least one SSIM window has a weight above 0."""
    centres, edge = torch.zeros_like(weight), WINDOW // 2
    if min(weight.shape[-2:]) >= WINDOW:
        centres[:, edge:-edge, edge:-edge] = weight[:, edge:-edge, edge:-edge]
    return _has_area(centres)


def _compute(distance: Distance, defined: Defined, reference: Reference, batch: EditBatch) -> Float[Tensor, " b"]:
    image, weight = reference(batch)
    return where_defined(defined(weight), distance(batch), image, batch.edit, weight)


def _register(
    name: str,
    distance: Distance,
    help: str,
    better: str,
    unit: str = "",
    needs: tuple[str, ...] = (),
    defined: Defined = _has_area,
) -> None:
    for prefix, (end, more, reference) in REFERENCES.items():
        metric(prefix + name, help=f"{help} {end}", better=better, unit=unit, needs=(*needs, *more))(
            partial(_compute, distance, defined, reference)
        )


_register("mse", lambda batch: mse, "mean squared error", "lower")
_register("psnr", lambda batch: psnr, "peak signal-to-noise ratio", "higher", "dB")
_register("ssim", lambda batch: ssim, "structural similarity", "higher", defined=_has_window)
_register(
    "lpips", lambda batch: partial(lpips, batch.perceptual_network), "LPIPS distance", "lower",
    needs=("perceptual network",),
)  # fmt: skip


@metric("structure", help="structure distance to the source", better="lower", needs=("structure network",))
def structure(batch: EditBatch) -> Float[Tensor, " b"]:
    """Structure distance between source and edited image; see `structure_distance`."""
    return structure_distance(batch.structure_network, batch.source, batch.edit)
