"""The eight metrics of PIE-Bench (Ju et al., "PnP Inversion", ICLR 2024), as its official code computes them.

Use them for comparison with published tables. "Unedit part" sets the pixels inside the mask to black in both images and
averages over the *complete* image (which favours edits with large masks); "edit part" sets the pixels outside the mask
to black. The structure distance passes grey levels in 0..255 to a network that expects pixels in 0..1. Comparison with
published numbers also requires PIE-Bench's networks: CLIP ViT-L/14, DINO ViT-B/8 and LPIPS on SqueezeNet.

The official code does not pin the versions of its libraries, and two of its metrics depend on them (`VERSIONS`):

    structure_distance    torchvision's Resize of a tensor, bilinear: antialiased from torchvision 0.17 (January 2024),
                          before that without antialiasing: each output pixel is interpolated from two input pixels
                          per axis
    ssim_unedit_part      torchmetrics up to 1.4.1: windows inside the image, as in Wang et al.; from 1.4.2 (September
                          2024) also windows across the border, with reflection padding

The table of the paper is of October 2023, and its environment has torchvision 0.13.1. The paper's values therefore
correspond to `structure_distance_without_antialias` and `ssim_unedit_part`. With current library versions the official
code computes `structure_distance` and `ssim_unedit_part_with_border`.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.metrics import EditBatch, Metric, VisionEncoder, lpips, mse, psnr, self_similarity, ssim
from sfumato.metrics.checks import check_pair
from sfumato.metrics.pairs import WINDOW, ssim_map

#: Batch -> distance function of two batches of images [b,3,h,w] in [0,1], which returns float64 [b].
Distance = Callable[[EditBatch], Callable[[Tensor, Tensor], Tensor]]
_SMALLEST_WITH_BORDER = WINDOW // 2 + 1  # reflection pads by less than the side


def structure_of_levels(encoder: VisionEncoder, a: Tensor, b: Tensor, *, antialias: bool = True) -> Tensor:
    """Structure distance of images [b,3,h,w] in [0,1] as PIE-Bench's code computes it.

    That code passes grey levels in 0..255 where pixels in 0..1 are expected: the network receives (255 x - mean) / std.
    The images are reduced by torchvision's rule for tensors, `F.interpolate(..., mode="bilinear", align_corners=False)`
    in float32. PIE-Bench's images are square; other images are also resized to the input size of the encoder.

    Args:
        encoder: the vision transformer, in published numbers DINO ViT-B/8 at 224 pixels.
        a: images in [0, 1].
        b: images of the same shape.
        antialias: as torchvision from 0.17 on; False as torchvision before.

    Returns:
        float64 [b].
    """
    S_a, S_b = (self_similarity(encoder.keys(2 * _reduced(encoder, x, antialias) - 1)) for x in (a, b))
    return (S_a - S_b).square().mean((1, 2)).to(a.device)


def _reduced(encoder: VisionEncoder, x: Tensor, antialias: bool) -> Tensor:
    """Grey levels 255 x at the encoder's size."""
    levels = 255 * x.to(encoder.mean)
    if tuple(x.shape[-2:]) == encoder.size:
        return levels
    return F.interpolate(levels, encoder.size, mode="bilinear", align_corners=False, antialias=antialias)


def ssim_with_border(a: Tensor, b: Tensor) -> Tensor:
    """SSIM, float64 [b], of images [b,3,h,w] in [0,1], by torchmetrics from 1.4.2 on.

    The images are padded by 5 pixels with reflection (without repeating the border), and the mean is over the windows
    centred at all pixels.

    Raises:
        BadInput: as `mse`, or a side has less than 6 pixels, too few for the padding.
        NonFinite: as `mse`.
    """
    check_pair(a, b)
    edge = WINDOW // 2
    if min(a.shape[-2:]) < _SMALLEST_WITH_BORDER:
        height, width = a.shape[-2:]
        raise BadInput(
            f"SSIM with border needs images of at least {_SMALLEST_WITH_BORDER} x {_SMALLEST_WITH_BORDER} pixels, "
            f"not {width} x {height}."
        )
    a, b = (F.pad(x.double(), (edge, edge, edge, edge), mode="reflect") for x in (a, b))
    return ssim_map(a, b).mean(dim=(1, 2, 3))


def _structure(batch: EditBatch) -> Tensor:
    return structure_of_levels(batch.structure_network, batch.source, batch.edit)


def _structure_without_antialias(batch: EditBatch) -> Tensor:
    return structure_of_levels(batch.structure_network, batch.source, batch.edit, antialias=False)


def _unedited(distance: Distance, smallest: int, batch: EditBatch) -> Tensor:
    """Distance of both images with the pixels inside the mask black.

    NaN where the mask covers the complete image, and for images with a side of less than `smallest` pixels.
    """
    if min(batch.source.shape[-2:]) < smallest:
        return torch.full((len(batch.source),), torch.nan, dtype=torch.float64)
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
    name: str,
    help: str,
    better: str,
    distance: Distance,
    unit: str = "",
    needs: tuple[str, ...] = ("mask",),
    smallest: int = 1,
) -> Metric:
    compute = partial(_unedited, distance, smallest)
    return Metric(name, f"{help}, black inside the mask", better, unit, needs=needs, compute=compute)


_TEXT = ("dual encoder", "target text")
_METRICS = (
    Metric(
        "structure_distance", "PIE-Bench: structure distance to the source", "lower",
        needs=("structure network",), compute=_structure,
    ),
    _unedited_metric("psnr_unedit_part", "PIE-Bench: PSNR", "higher", lambda batch: psnr, "dB"),
    _unedited_metric(
        "lpips_unedit_part", "PIE-Bench: LPIPS", "lower", lambda batch: partial(lpips, batch.perceptual_network),
        needs=("perceptual network", "mask"),
    ),
    _unedited_metric("mse_unedit_part", "PIE-Bench: mean squared error", "lower", lambda batch: mse),
    _unedited_metric("ssim_unedit_part", "PIE-Bench: SSIM", "higher", lambda batch: ssim, smallest=WINDOW),
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
_OTHERS = (
    Metric(
        "structure_distance_without_antialias", "PIE-Bench: structure distance, torchvision before 0.17", "lower",
        needs=("structure network",), compute=_structure_without_antialias,
    ),
    _unedited_metric(
        "ssim_unedit_part_with_border", "PIE-Bench: SSIM of torchmetrics from 1.4.2", "higher",
        lambda batch: ssim_with_border, smallest=_SMALLEST_WITH_BORDER,
    ),
)  # fmt: skip
VERSIONS = {each.name: each for each in _OTHERS}
"""Two of the metrics as computed with other versions of the libraries, by name."""
