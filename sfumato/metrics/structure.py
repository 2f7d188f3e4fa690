"""DINO structure distance: difference of the layouts of two images, largely independent of colours and textures.

Tumanyan, Bar-Tal, Bagon and Dekel, "Splicing ViT Features for Semantic Appearance Transfer", CVPR 2022, section 3.1 and
equation 5: S_ij is the cosine similarity of the keys of tokens i and j in the last layer of a DINO ViT. The paper's
loss is the Frobenius norm of the difference of two such matrices; this is the mean square of the difference, as in the
authors' code and in PIE-Bench. Published numbers use DINO ViT-B/8 at 224 pixels; other encoders have other scales.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.metrics.checks import Mask, check_pair, mask_weights, weighted_mean
from sfumato.metrics.vision import VisionEncoder


@torch.no_grad()
def structure_distance(
    encoder: VisionEncoder, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Mask = None
) -> Float[Tensor, " b"]:
    """Mean of (S_ij(a) - S_ij(b))^2 over all pairs of tokens.

    Args:
        encoder: the vision transformer.
        a: images in [0, 1].
        b: images of the same shape.
        mask: [h, w] or [b, h, w] in [0, 1]. The weight of a token is the mean of the mask over its patch, that of a
            pair the product of both. A token without a position (class token, registers) has the smallest weight of
            all patches.

    Returns:
        float64 [b] in [0, 4] on the CPU; 0 for equal images.

    Raises:
        BadInput: as `mse`.
        NonFinite: as `mse`.
    """
    check_pair(a, b)
    place = encoder.mean
    S_a, S_b = (self_similarity(encoder.keys(2 * x.to(place) - 1)) for x in (a, b))
    patches = F.adaptive_avg_pool2d(mask_weights(mask, a)[:, None].cpu().double(), encoder.grid).flatten(1)
    without_place = S_a.shape[1] - patches.shape[1]
    weight = torch.cat([patches.amin(1, keepdim=True).expand(-1, without_place), patches], 1)
    return weighted_mean((S_a - S_b).square(), weight[:, :, None] * weight[:, None, :])


def self_similarity(keys: Float[Tensor, "b t d"]) -> Float[Tensor, "b t t"]:
    """S_ij = cos(k_i, k_j), float64 on the CPU, since MPS does not support float64."""
    k = F.normalize(keys.cpu().double(), dim=-1)
    return k @ k.mT
