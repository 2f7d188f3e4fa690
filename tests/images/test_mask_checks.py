"""Pictures given as masks are refused; masks with soft edges, gradients and several levels are accepted."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from images import make
from sfumato.errors import BadInput
from sfumato.examples import __file__ as examples
from sfumato.images import read_mask

SIZE = 128
Y, X = np.mgrid[0:SIZE, 0:SIZE] / SIZE
RADIUS = np.hypot(X - 0.5, Y - 0.5)


def grey(array):
    return Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))


def drawing(name, side=SIZE):
    """One of the example images in grey."""
    with Image.open(Path(examples).with_name(f"{name}.png")) as image:
        return image.convert("L").resize((side, side), Image.Resampling.LANCZOS)


def jpeg(image, quality):
    return Image.open(io.BytesIO(make.encoded(image, "JPEG", quality=quality)))


@pytest.mark.parametrize("side", [64, 128, 200, 256, 512])
@pytest.mark.parametrize("name", ["cat", "fox"])
def test_greyscale_drawing_is_refused(name, side):
    image = drawing(name, side)
    for given in (image, image.point(lambda level: 255 - level)):
        with pytest.raises(BadInput, match=r"is a greyscale picture, not a mask: .* Paint white the area"):
            read_mask(given, (side, side))


@pytest.mark.parametrize("smoothness", [1.0, 1.5])
def test_greyscale_texture_is_refused(smoothness):
    """Random numbers whose amplitude falls with the frequency, as that of photographs does."""
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(SIZE)] * 2)) + 1 / SIZE
    noise = np.fft.ifft2(np.fft.fft2(np.random.default_rng(0).normal(size=(SIZE, SIZE))) / frequency**smoothness).real
    image = grey(128 + 60 * (noise - noise.mean()) / noise.std())
    for given in (image, jpeg(image, 75)):
        with pytest.raises(BadInput, match="greyscale picture"):
            read_mask(given, (SIZE, SIZE))


@pytest.mark.parametrize(
    ("name", "side"), [(n, s) for n in ("heart", "face") for s in (64, 128, 512)] + [("cat", 2048)]
)
def test_drawing_that_could_be_a_mask_is_noted(name, side):
    """Drawings of few levels are like masks of several levels, but a note says what greys mean."""
    assert "pixels are grey" in read_mask(drawing(name, side), (side, side)).note


@pytest.mark.parametrize("side", [64, 128])
def test_heat_map_that_looks_like_a_picture_is_accepted_as_is(side):
    """The refusal names the way to use such a mask."""
    noise = np.random.default_rng(0).normal(size=(side, side)) * 40
    heat = grey(noise + 255 * np.hypot(*np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]))
    with pytest.raises(BadInput, match=r"greyscale picture.*--mask-as-is .*read_mask\(\.\.\., as_is=True\)"):
        read_mask(heat, heat.size)
    mask = read_mask(heat, heat.size, as_is=True)
    np.testing.assert_array_equal(np.rint(mask.weights * 255), np.asarray(heat))
    with pytest.raises(BadInput, match="image in colour"):
        read_mask(Image.new("RGB", heat.size, "red"), heat.size, as_is=True)


DISC = grey(255 * (RADIUS < 0.3))
RINGS = grey(sum((limit > RADIUS) * 60.0 for limit in (0.45, 0.35, 0.25, 0.15)))
SMOOTH = {
    "ramp": grey(255 * X),
    "diagonal ramp": grey(127 * (X + Y)),
    "radial gradient": grey(255 - 400 * RADIUS),
    "waves": grey(127 + 127 * np.sin(12 * X) * np.sin(9 * Y)),
    "ramp in a disc": grey(255 * X * (RADIUS < 0.4)),
    "disc": DISC,
    "grey disc": grey(128.0 * (RADIUS < 0.3)),
    "rings": RINGS,
    "antialiased disc": grey(255 * (0.3 - RADIUS) * SIZE),
}
BLURS = {
    f"{name}, blur {r}": SMOOTH[name].filter(ImageFilter.GaussianBlur(r))
    for name in ("disc", "rings")
    for r in (1, 2, 4, 8, 20)
}
BOXES = {f"disc, box {r}": DISC.filter(ImageFilter.BoxBlur(r)) for r in (1, 3, 8)}


@pytest.mark.parametrize("quality", [None, 40, 75])
@pytest.mark.parametrize("scale", [0.5, 1, 4])
@pytest.mark.parametrize("name", [*SMOOTH, *BLURS, *BOXES])
def test_smooth_masks_are_accepted(name, scale, quality):
    image = (SMOOTH | BLURS | BOXES)[name]
    image = image.resize((int(SIZE * scale),) * 2, Image.Resampling.BICUBIC)
    image = image if quality is None else jpeg(image, quality)
    mask = read_mask(image, image.size)
    assert mask.weights.any()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("name", ["cat", "heart"])
def test_grey_picture_with_a_hole_requires_transparent_parts(name, mode):
    image = drawing(name).convert(mode)
    image.putalpha(grey(255 * (RADIUS > 0.2)))
    with pytest.raises(BadInput, match=r"grey image with transparent parts.*add --mask-transparent .*paint them black"):
        read_mask(image, (SIZE, SIZE))


@pytest.mark.parametrize("level", [255, 128])
def test_shapes_painted_on_transparent_ground_are_masks(level):
    soft = grey(255 - 600 * RADIUS)
    painted = Image.merge("LA", (Image.new("L", soft.size, level), soft))
    expected = np.rint(np.asarray(soft).astype(np.float64) * level / 255)
    np.testing.assert_array_equal(np.rint(read_mask(painted, soft.size).weights.astype(np.float64) * 255), expected)
    lines = Image.merge("LA", (DISC.filter(ImageFilter.GaussianBlur(1)), grey(255 * (RADIUS < 0.4))))
    assert read_mask(lines, soft.size).weights.any()


def test_coloured_shape_on_transparent_ground_is_to_be_painted_white():
    """--mask-transparent would select everything except the shape."""
    red = np.zeros((SIZE, SIZE, 4), np.uint8)
    red[RADIUS < 0.3] = (255, 0, 0, 255)
    with pytest.raises(
        BadInput, match=r"has a colour on a transparent ground: .*Paint the coloured area white"
    ) as error:
        read_mask(red, (SIZE, SIZE))
    assert "--mask-transparent" not in str(error.value)
