"""Metrics of style transfer, as in PARASOL (arXiv 2303.06464, section 4): style and colours against a style image,
content against the source.

Descriptors are computed from the centre square of an image, as in an index and in the method parasol; colours and the
single-image FID are computed from the complete image.

Published tables use ALADIN for the style, CLIP for the content, and an Inception network for SIFID. Values of other
networks have other scales.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.images.tensors import centre_square
from sfumato.metrics.edit_batch import EditBatch
from sfumato.metrics.frechet import feature_distance
from sfumato.metrics.perceptual import PerceptualDistance
from sfumato.metrics.registry import metric

COLOURS = 64
"""Rows and columns of the grid at which the colours of larger images are sampled."""


@metric(
    "style_mse",
    help="squared error of the style descriptor to the style image",
    better="lower",
    needs=("style encoder", "style image"),
)
def style_mse(batch: EditBatch) -> Float[Tensor, " b"]:
    """Mean over the dimensions of (A(edit) - A(style))^2, of unit descriptors; at most 4 / d."""
    features = batch.style_encoder.image_features
    wanted = torch.cat([features(centre_square(image[None])) for image in batch.style])
    return (features(centre_square(batch.edit)) - wanted).double().square().mean(dim=1)


@metric(
    "content_mse",
    help="squared error of the image features of the dual encoder to the source",
    better="lower",
    needs=("dual encoder", "style image"),
)
def content_mse(batch: EditBatch) -> Float[Tensor, " b"]:
    """Mean over the dimensions of (C(edit) - C(source))^2, of unit features; at most 4 / d."""
    edit, source = batch.edit, batch.source
    if edit.shape[-1] == edit.shape[-2]:  # these features are cached in the batch for other metrics
        return (batch.edit_features - batch.source_features).double().square().mean(dim=1)
    edited, original = (batch.dual_encoder.image_features(centre_square(each)) for each in (edit, source))
    return (edited - original).double().square().mean(dim=1)


@metric("chamfer", help="Chamfer distance of the colours to the style image", better="lower", needs=("style image",))
def chamfer(batch: EditBatch) -> Float[Tensor, " b"]:
    """`chamfer_distance` of the colours of edited image and style image."""
    pairs = zip(batch.edit, batch.style, strict=True)
    return torch.stack([chamfer_distance(colours(edit), colours(style)) for edit, style in pairs])


@metric(
    "sifid",
    help="single-image FID to the style image",
    better="lower",
    needs=("perceptual network", "style image"),
)
def sifid(batch: EditBatch) -> Float[Tensor, " b"]:
    """Single-image FID (Shaham et al., ICCV 2019, arXiv 1905.01164) of edited image and style image.

    The Fréchet distance of the features at all positions of the finest layer of the perceptual network. NaN if an image
    is smaller than the network accepts.
    """
    network = batch.perceptual_network
    pairs = zip(batch.edit, batch.style, strict=True)
    return torch.tensor([_sifid(network, edit, style) for edit, style in pairs], dtype=torch.float64)


def colours(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "n 3"]:
    """Colours of an image in [0, 1] on a regular grid of at most `COLOURS` rows and columns, float64."""
    rows, columns = (torch.linspace(0, side - 1, min(side, COLOURS)).round().long() for side in image.shape[1:])
    return image[:, rows][:, :, columns].flatten(1).T.double()


def chamfer_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Chamfer distance of two sets of points (Fan et al., CVPR 2017, equation 1), with means in place of sums:

        mean_i min_j |a_i - b_j|^2 + mean_j min_i |a_i - b_j|^2

    Raises:
        BadInput: a set is empty, or the dimensions differ.
    """
    if not len(a) or not len(b) or a.shape[1:] != b.shape[1:]:
        raise BadInput(f"point sets [n, d] of one dimension are needed, not {list(a.shape)} and {list(b.shape)}.")
    squares = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    return squares.amin(dim=1).mean() + squares.amin(dim=0).mean()


@torch.no_grad()
def _sifid(network: PerceptualDistance, edit: Float[Tensor, "3 h w"], style: Float[Tensor, "3 h2 w2"]) -> float:
    if min(*edit.shape[1:], *style.shape[1:]) < network.smallest:
        return float("nan")
    place = next(network.network.parameters())
    maps = [network.network(2 * image[None].to(place) - 1)[0][0] for image in (edit, style)]
    a, b = (each.flatten(1).T.cpu() for each in maps)
    return feature_distance(a, b) if min(len(a), len(b)) > 1 else float("nan")
