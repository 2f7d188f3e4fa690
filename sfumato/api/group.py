"""Batches of images of one size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sfumato.api.extra import extra_of
from sfumato.core.batching import rows_per_call
from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided, classifier_free
from sfumato.images import LoadedImage, Padding, crop_back, pad_to_grid, to_tensor
from sfumato.inversion import Inversion
from sfumato.models.diffusion_model import DiffusionModel

DECODED_TOGETHER = 2**21
"""Maximum number of pixels per call of the decoder, which needs far more memory per row than the U-Net."""


@dataclass(eq=False)
class Group:
    """Images of one size and their inversion.

    Attributes:
        network: the model.
        indices: positions of the images in the user's list.
        images: the images at the size at which they are edited; `LoadedImage.full` is the image as it was read.
        inversion: one row per image.
        condition: condition of the source prompts, with maps, labels and tokens of the images, one row per image.
        maps: cached maps from which regions are computed, see `sfumato.api.automatic_masks.find`.
    """

    network: DiffusionModel
    indices: list[int]
    images: list[LoadedImage]
    inversion: Inversion
    condition: Condition
    maps: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels at which the images are edited."""
        return self.images[0].size

    @property
    def full_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the images as they were read."""
        return self.images[0].full.size

    @cached_property
    def source(self) -> Tensor:
        """The images, float32 [b,3,h,w] in [-1,1], on the CPU."""
        return torch.cat([to_tensor(image) for image in self.images])

    @cached_property
    def autoencoded(self) -> Tensor:
        """D(E(x)): the images reconstructed by the autoencoder, in the format of `source`."""
        return decoded(self.network, self.inversion.x0, self.size)

    @property
    def extra(self) -> Condition:
        """Maps, labels and tokens of the images (`sfumato.api.extra`), one row per image."""
        return extra_of(self.network, self.condition)


def guided(
    network: DiffusionModel, guidance_scales: Sequence[float], size: tuple[int, int], negative_prompt: str = ""
) -> Guided:
    """Return the network with classifier-free guidance.

    Args:
        network: the model.
        guidance_scales: one per row.
        size: (height, width) of the images in pixels.
        negative_prompt: the negative prompt; ignored for a model without text input.
    """
    negative = None
    if network.takes_text:
        negative = network.condition([negative_prompt] * len(guidance_scales), size=size)
    return classifier_free(network, negative, [float(scale) for scale in guidance_scales])


def encode(network: DiffusionModel, images: Sequence[LoadedImage]) -> Tensor:
    """Encode images of one size, padded to the network's grid, to x_0, float32 [b,c,h,w] on the network's device."""
    padded = [pad_to_grid(to_tensor(image), network.multiple)[0] for image in images]
    with torch.no_grad():
        return torch.cat([network.encode(each.to(network.device)).float() for each in padded])


def decoded(network: DiffusionModel, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Decode latents to images of `size` (width, height), float32 [b,3,h,w] in about [-1,1], on the CPU."""
    each = latents.shape[-2] * latents.shape[-1] * network.factor**2
    rows = max(1, DECODED_TOGETHER // each)
    with torch.no_grad():
        pixels = torch.cat([network.decode(part.float()).cpu() for part in latents.split(rows)])
    width, height = size
    return crop_back(pixels, Padding(height, width))


def padded_size(network: DiffusionModel, size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) in pixels of an image of `size` (width, height) after padding to the network's grid."""
    width, height = size
    grid = network.multiple
    return -(-height // grid) * grid, -(-width // grid) * grid


def at_once(shape: Sequence[int], batch: int | None) -> int:
    """Return the number of latents [...,c,h,w] per forward pass: half of the rows, as guidance needs two per latent."""
    return max(1, (batch or rows_per_call(*shape[-3:])) // 2)


def of_one_size(network: DiffusionModel, images: Sequence[LoadedImage], batch: int | None) -> Iterator[list[int]]:
    """Group images by size and yield batches of their indices, in the order in which the sizes first occur.

    The images of a batch have the same edited size and the same full size.
    """
    sizes: dict[tuple[tuple[int, int], tuple[int, int]], list[int]] = {}
    for index, image in enumerate(images):
        sizes.setdefault((image.size, image.full.size), []).append(index)
    for indices in sizes.values():
        largest = at_once(network.latent_shape(*padded_size(network, images[indices[0]].size)), batch)
        for first in range(0, len(indices), largest):
            yield indices[first : first + largest]
