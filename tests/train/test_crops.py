"""Crops that contain edges."""

import torch

from sfumato.train.crops import crops_with_edges
from sfumato.train.seeds import step_generator


def drawn(n=64, side=32):
    """White images, each with a black square at a random position."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.ones(n, 3, side, side)
    for image in pixels:
        y, x = torch.randint(side - 6, (2,), generator=generator).tolist()
        image[:, y : y + 6, x : x + 6] = -1
    return pixels


def test_crop_is_part_of_its_image_and_reproducible():
    pixels = torch.rand(5, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    crops = crops_with_edges(pixels, 12, step_generator(0, 3, 0))
    assert crops.shape == (5, 3, 12, 12)
    for image, crop in zip(pixels, crops, strict=True):
        places = image.unfold(1, 12, 1).unfold(2, 12, 1)  # [3,9,13,12,12]
        assert (places == crop[:, None, None]).all(-1).all(-1).all(0).any()
    assert torch.equal(crops, crops_with_edges(pixels, 12, step_generator(0, 3, 0)))
    assert not torch.equal(crops, crops_with_edges(pixels, 12, step_generator(0, 4, 0)))


def test_crops_contain_edges_more_often_than_random_ones():
    pixels = drawn()
    crops = crops_with_edges(pixels, 12, step_generator(0, 0, 0))
    with_edges = (crops.amax((1, 2, 3)) > crops.amin((1, 2, 3))).float().mean()
    anywhere = pixels.unfold(2, 12, 1).unfold(3, 12, 1).flatten(2, 3)
    random = (anywhere.amax((1, 3, 4)) > anywhere.amin((1, 3, 4))).float().mean()
    assert with_edges > random + 0.15


def test_crop_of_full_size_is_the_image():
    pixels = drawn(3)
    assert torch.equal(crops_with_edges(pixels, 32, step_generator(0, 0, 0)), pixels)
