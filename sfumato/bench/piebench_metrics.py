"""The eight metrics of PIE-Bench (Ju et al., "PnP Inversion", ICLR 2024), by its rules and under its names.

They are for comparison with published tables. "Unedit part" makes the pixels inside the mask black in both images and
averages over the *complete* image (which favours edits with large masks); "edit part" makes the pixels outside the mask
black. The structure distance passes grey levels in 0..255 to a network that expects pixels in 0..1. Published numbers
also need PIE-Bench's networks: CLIP ViT-L/14, DINO ViT-B/8 and LPIPS on SqueezeNet.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sfumato.metrics import EditBatch, Metric, VisionEncoder, lpips, mse, psnr, self_similarity, ssim

#: Batch -> distance function of two batches of images [b,3,h,w] in [0,1], which returns float64 [b].
Distance = Callable[[EditBatch], Callable[[Tensor, Tensor], Tensor]]


def structure_of_levels(encoder: VisionEncoder, a: Tensor, b: Tensor) -> Tensor:
    """Structure distance, float64 [b], of images [b,3,h,w] in [0,1] as PIE-Bench's code computes it.

    That code passes grey levels in 0..255 where pixels in 0..1 are expected: the network receives (255 x - mean) / std.
    """
    S_a, S_b = (self_similarity(encoder.keys(2 * 255 * x.to(encoder.mean) - 1)) for x in (a, b))
    return (S_a - S_b).square().mean((1, 2)).to(a.device)


def _structure(batch: EditBatch) -> Tensor:
    return structure_of_levels(batch.structure_network, batch.source, batch.edit)


def _unedited(distance: Distance, batch: EditBatch) -> Tensor:
    """Distance of both images with the pixels inside the mask black; NaN where the mask covers the complete image."""
    outside = 1 - batch.mask[:, None]
    values = distance(batch)(batch.source * outside, batch.edit * outside)
    return values.masked_fill((batch.mask == 1).flatten(1).all(1), torch.nan)


def _percent(image_features: Tensor, text_features: Tensor) -> Tensor:
    """100 times the cosine similarity, 0 where that is negative."""
    return 100 * (image_features * text_features).sum(-1).cpu().double().clamp(min=0)


def _source_image(batch: EditBatch) -> Tensor:
    return _percent(batch.source_features, batch.source_text_features)


def _target_image(batch: EditBatch) -> Tensor:
    return _percent(batch.edit_features, batch.target_text_features)


def _edit_part(batch: EditBatch) -> Tensor:
    """CLIP similarity of the edited image, black outside the mask; NaN where the mask is empty."""
    values = _percent(batch.region_features, batch.target_text_features)
    return values.masked_fill((batch.mask == 0).flatten(1).all(1).cpu(), torch.nan)


def _unedited_metric(
    name: str, help: str, better: str, distance: Distance, unit: str = "", needs: tuple[str, ...] = ("mask",)
) -> Metric:
    compute = partial(_unedited, distance)
    return Metric(f"{name}_unedit_part", f"{help}, black inside the mask", better, unit, needs=needs, compute=compute)


_TEXT = ("dual encoder", "target text")
_METRICS = (
    Metric(
        "structure_distance", "PIE-Bench: structure distance to the source", "lower",
        needs=("structure network",), compute=_structure,
    ),
    _unedited_metric("psnr", "PIE-Bench: PSNR", "higher", lambda batch: psnr, "dB"),
    _unedited_metric(
        "lpips", "PIE-Bench: LPIPS", "lower", lambda batch: partial(lpips, batch.perceptual_network),
        needs=("perceptual network", "mask"),
    ),
    _unedited_metric("mse", "PIE-Bench: mean squared error", "lower", lambda batch: mse),
    _unedited_metric("ssim", "PIE-Bench: SSIM", "higher", lambda batch: ssim),
    Metric(
        "clip_similarity_source_image", "PIE-Bench: 100 x CLIP similarity of source and its prompt", "higher",
        needs=("dual encoder", "source text"), compute=_source_image,
    ),
    Metric(
        "clip_similarity_target_image", "PIE-Bench: 100 x CLIP similarity of edit and target prompt", "higher",
        needs=_TEXT, compute=_target_image,
    ),
    Metric(
        "clip_similarity_target_image_edit_part", "PIE-Bench: 100 x CLIP similarity of edit part and target prompt",
        "higher", needs=(*_TEXT, "mask"), compute=_edit_part,
    ),
)  # fmt: skip
PUBLISHED = {each.name: each for each in _METRICS}
"""The eight metrics by name, in the order of the published tables."""
