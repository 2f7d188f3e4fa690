"""Replacement of the main colour of an image: Oklab against published values, changed and unchanged pixels."""

import math

import pytest
import torch

from sfumato.images import oklab
from sfumato.images.oklab import from_oklab, to_oklab
from sfumato.images.recolour import main_colour, recolour

BLUE = torch.tensor([-1.0, -0.2, 1.0])


def of(*levels):
    return torch.tensor(levels, dtype=torch.float64) / 127.5 - 1


def scene(*, ground=(255, 255, 255), body=(220, 40, 60), eye=(0, 0, 0), mouth=(30, 160, 60)):
    """A disc with a shadow, an eye and a mouth on a plain ground, [3,32,32]."""
    pixels = of(*ground)[:, None, None].repeat(1, 32, 32)
    y, x = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="ij")
    disc = x**2 + y**2 < 12**2
    pixels[:, disc] = of(*body)[:, None]
    pixels[:, disc & (x > 5)] = from_oklab(to_oklab(of(*body)[:, None]) * 0.7)
    pixels[:, 10:13, 10:13] = of(*eye)[:, None, None]
    pixels[:, 20:23, 10:16] = of(*mouth)[:, None, None]
    return pixels, disc


# Ottosson's post gives these for XYZ (0.950, 1, 1.089), (1, 0, 0), (0, 1, 0), (0, 0, 1), to three digits.
XYZ = {
    (0.95, 1.0, 1.089): (1.0, 0.0, 0.0),
    (1.0, 0.0, 0.0): (0.45, 1.236, -0.019),
    (0.0, 1.0, 0.0): (0.922, -0.671, 0.263),
    (0.0, 0.0, 1.0): (0.153, -1.415, -0.449),
}
TO_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=torch.float64,
)


@pytest.mark.parametrize(("xyz", "lab"), XYZ.items())
def test_oklab_has_the_published_values(xyz, lab):
    """Through the published matrix from XYZ; most of these colours are outside sRGB."""
    linear = torch.linalg.solve(TO_XYZ, torch.tensor(xyz, dtype=torch.float64))
    cones = oklab._times(oklab.LMS, linear[:, None])
    found = oklab._times(oklab.LAB, cones.sign() * cones.abs() ** (1 / 3))
    assert torch.allclose(found[:, 0], torch.tensor(lab, dtype=torch.float64), atol=2e-3)


def test_oklab_round_trip():
    pixels = torch.rand(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    assert torch.allclose(from_oklab(to_oklab(pixels)), pixels, atol=1e-6)
    greys = to_oklab(torch.linspace(-1, 1, 9, dtype=torch.float64).expand(3, 9))
    assert greys[1:].abs().max() < 1e-6
    assert math.isclose(greys[0, 0], 0, abs_tol=1e-9)
    assert math.isclose(greys[0, -1], 1, abs_tol=1e-6)


def test_main_colour_and_its_shades_are_replaced():
    pixels, _ = scene()
    found = recolour(pixels, BLUE)
    assert torch.allclose(found.pixels[:, 16, 16], BLUE.double(), atol=1e-5)
    lab, wanted, before = (to_oklab(each) for each in (found.pixels, BLUE.double()[:, None], pixels))
    shadow, c = lab[:, 16, 25], to_oklab(of(220, 40, 60)[:, None])[:, 0]
    assert torch.allclose(torch.atan2(shadow[2], shadow[1]), torch.atan2(wanted[2], wanted[1])[0], atol=1e-4)
    ratio = before[0, 16, 25] / c[0]  # 0.7, also of the chroma
    assert wanted[0, 0] < c[0]
    lightness = before[0, 16, 25] * (1 - ratio + ratio * wanted[0, 0] / c[0])
    assert torch.allclose(shadow[0], lightness, atol=1e-4)
    assert torch.allclose(shadow[1:].norm(), ratio * wanted[1:].norm(), atol=1e-4)


def test_background_black_and_other_hues_are_unchanged():
    pixels, disc = scene()
    found = recolour(pixels, BLUE)
    for place in ((slice(10, 13), slice(10, 13)), (slice(20, 23), slice(10, 16)), (slice(0, 3), slice(0, 32))):
        assert torch.equal(found.pixels[:, *place], pixels[:, *place])
        assert not found.share[place].any()
    assert not found.share[~disc].any()


@pytest.mark.parametrize("ground", [(255, 255, 255), (40, 60, 220), (210, 50, 50)])
def test_plain_background_is_excluded_from_the_main_colour(ground):
    pixels, disc = scene(ground=ground, body=(120, 200, 60), mouth=(0, 0, 0))
    found = recolour(pixels, BLUE)
    assert torch.equal(found.pixels[:, ~disc], pixels[:, ~disc])
    assert torch.allclose(found.pixels[:, 16, 16], BLUE.double(), atol=1e-5)


def test_the_main_colour_inside_a_region():
    pixels, _ = scene()
    mouth = torch.zeros(32, 32, dtype=torch.bool)
    mouth[20:23, 10:16] = True
    found = recolour(pixels, BLUE, mouth)
    assert torch.equal(found.pixels[:, ~mouth], pixels[:, ~mouth])
    assert torch.allclose(found.pixels[:, 21, 12], BLUE.double(), atol=1e-5)


@pytest.mark.parametrize("level", [0, 30, 128, 235])
def test_grey_object_takes_the_colour_and_white_is_unchanged(level):
    pixels, _ = scene(ground=(250, 200, 180), body=(level,) * 3, eye=(255, 255, 255), mouth=(220, 40, 60))
    found = recolour(pixels, BLUE)
    tolerance = 0.06 if level == 0 else 1e-4  # the main colour is never completely black
    assert torch.allclose(found.pixels[:, 16, 16], BLUE.double(), atol=tolerance)
    assert torch.equal(found.pixels[:, 20:23, 10:16], pixels[:, 20:23, 10:16])
    if level < 200:
        assert torch.allclose(found.pixels[:, 10:13, 10:13], pixels[:, 10:13, 10:13], atol=1e-4)


def test_main_colour_is_the_most_frequent_hue():
    red, green = (to_oklab(of(*each)[:, None]) for each in ((220, 40, 60), (30, 160, 60)))
    pixels = torch.cat([red.repeat(1, 70), green.repeat(1, 30)], dim=1)
    assert torch.allclose(main_colour(pixels), red[:, 0])
    assert torch.allclose(main_colour(pixels[:, 60:]), green[:, 0])


def test_recolouring_to_the_main_colour_changes_nothing():
    pixels, _ = scene()
    found = recolour(pixels, of(220, 40, 60))
    assert torch.allclose(found.pixels, pixels, atol=1e-4)


def test_an_empty_region_changes_nothing():
    pixels, _ = scene()
    found = recolour(pixels, BLUE, torch.zeros(32, 32, dtype=torch.bool))
    assert torch.equal(found.pixels, pixels)
    assert not found.share.any()
