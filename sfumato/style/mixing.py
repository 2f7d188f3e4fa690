"""Weighted means of the descriptors of images and texts."""

from collections.abc import Mapping

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfumato.data.pixels import centre_square
from sfumato.images import read_image
from sfumato.style.describers import Describers, Vectors


def mixed(describers: Describers, modality: str, images: Mapping[str, float], text: str) -> Tensor | None:
    """Compute the weighted mean of the descriptors of images and, with weight 1, of a text, scaled to unit length.

    Args:
        describers: the encoders.
        modality: "content" or "style".
        images: weights by path of the image.
        text: a caption, or style words; "" for none.

    Returns:
        The descriptor, [1,d]; None if neither images nor a text are given.
    """
    parts = [weight * torch.from_numpy(_described(describers, modality, path)) for path, weight in images.items()]
    parts += [torch.from_numpy(describers.texts(modality, [text]))] if text else []
    return F.normalize(torch.stack(parts).sum(dim=0), dim=-1) if parts else None


def _described(describers: Describers, modality: str, path: str) -> Vectors:
    square = centre_square(Image.fromarray(read_image(path).rgb), describers.of(modality).size)
    return describers.images(modality, [square])
