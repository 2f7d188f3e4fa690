"""Combination of painted masks and automatic regions, as weights of pixels and as masks of latent positions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.api.automatic_masks import Found
from sfumato.api.region_arguments import Region
from sfumato.errors import BadInput
from sfumato.images import Mask, pad_to_grid
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.mask import KeepOutsideMask, to_latent_grid


@dataclass(frozen=True, eq=False)
class EditRegion:
    """The mask of one edit.

    Attributes:
        mask: weights of the pixels, at the full size of the image. An automatic region has soft borders if the image is
            edited at another size.
        cells: above 0 where the edit applies, at the resolution of the latents; 0 or 1 for an automatic region.
    """

    mask: Mask
    cells: Float[Tensor, "1 h w"]


def bound(
    network: DiffusionModel, mask: Mask | None, found: Found | None, wanted: Region | None, size: tuple[int, int]
) -> EditRegion | None:
    """Combine a painted mask and an automatic region of one edit by their product.

    Args:
        network: the model.
        mask: a painted mask at the full size of the image, or None.
        found: the region that was found in the image, or None.
        wanted: the arguments that describe the region, or None.
        size: (width, height) in pixels at which the image is edited.

    Returns:
        The mask of the edit, or None if neither is given.

    Raises:
        BadInput: the mask and the region do not overlap.
    """
    painted = None if mask is None else EditRegion(mask, _cells(network, mask, size))
    region = None if found is None else EditRegion(Mask(found.weights), found.cells)
    if painted is None or region is None or wanted is None:
        return painted or region
    weights, cells = region.mask.weights * painted.mask.weights, region.cells * painted.cells
    if not weights.any() or not cells.any():
        what = f"the region of {', '.join(wanted.words)}" if wanted.words else "the difference of the prompts"
        raise BadInput(
            f"The mask and {what} at the threshold {wanted.threshold:g} do not overlap: lower mask_threshold, or give "
            "one of them."
        )
    return EditRegion(replace(painted.mask, weights=weights), cells)


def held(network: DiffusionModel, bounds: Sequence[EditRegion | None]) -> list[KeepOutsideMask]:
    """Return the shift that keeps the latents of the source outside the masks (one per edit); [] without masks."""
    given = [each for each in bounds if each is not None]
    if not given:
        return []
    everywhere = torch.ones_like(given[0].cells)
    cells = torch.stack([everywhere if each is None else each.cells for each in bounds])
    return [KeepOutsideMask(cells.to(network.device))]


def _cells(network: DiffusionModel, mask: Mask, size: tuple[int, int]) -> Float[Tensor, "1 h w"]:
    """The maximum weight among the pixels of every latent position, including padding."""
    weights = torch.from_numpy(mask.weights)[None, None]
    if mask.size != size:  # the largest weight among the pixels that each pixel of the edited size covers
        weights = F.adaptive_max_pool2d(weights, size[::-1])
    padded, _ = pad_to_grid(weights, network.multiple)
    return to_latent_grid(padded, network.factor)[0]
