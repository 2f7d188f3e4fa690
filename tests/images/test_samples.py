"""Images of other depths than 8 bits, and images given as arrays."""

import numpy as np
import pytest
import torch
from PIL import Image

from images import make
from sfumato.errors import BadInput
from sfumato.images import read_image


@pytest.mark.parametrize(("bits", "shift"), [(1, 7), (2, 6), (4, 4), (8, 0)])
def test_transparent_grey_is_detected_at_every_bit_depth(bits, shift):
    """One row of one pixel for each level; the key is in the file's depth, Pillow's pixels are in 8 bits."""
    levels, key = 2**bits, 2 ** (bits - 1)
    rows = [bytes([level << shift]) for level in range(levels)]
    trns = make.chunk(b"tRNS", key.to_bytes(2, "big"))
    image = read_image(make.png(1, levels, bits, 0, rows, trns))
    np.testing.assert_array_equal(image.native[:, 0, 0], np.arange(levels) * 255 // (levels - 1))
    np.testing.assert_array_equal(image.alpha[:, 0], [0 if level == key else 255 for level in range(levels)])
    assert image.note == ""


def test_loss_of_a_16_bit_transparent_colour_is_noted():
    rows = [b"\x03\xe8\x07\xd0\x0b\xb8" + b"\x03\xe9\x07\xd1\x0b\xb9"]
    trns = make.chunk(b"tRNS", b"\x03\xe8\x07\xd0\x0b\xb8")
    image = read_image(make.png(2, 1, 16, 2, rows, trns))
    assert image.alpha is None
    assert "16 bits per channel, read" in image.note
    assert "transparent colour" in image.note
    assert "read as opaque" in image.note


def test_loss_of_float_and_integer_depth_is_noted():
    ramp = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    image = read_image(make.encoded(Image.fromarray(ramp), "TIFF"))
    assert image.note == "32-bit floating-point samples, read in 8 bits"
    np.testing.assert_array_equal(image.rgb[..., 0], np.rint(ramp.astype(np.float64) * 255))
    long = Image.fromarray((ramp * 65535).astype(np.int32))
    assert read_image(make.encoded(long, "TIFF")).note == "more than 8 bits per channel, read in 8 bits"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_array_gives_the_same_image_as_its_file(channels):
    pixels = make.noise(channels=channels)
    ours, theirs = read_image(pixels[:, ::-1]), read_image(make.encoded(pixels[:, ::-1], "PNG"))
    assert (ours.size, ours.mode, ours.note, ours.name) == (theirs.size, theirs.mode, "", "the given image")
    np.testing.assert_array_equal(ours.rgb, theirs.rgb)
    assert (ours.alpha is None) == (theirs.alpha is None) == (channels != 4)
    if channels == 4:
        np.testing.assert_array_equal(ours.alpha, pixels[:, ::-1, 3])
    with pytest.raises(BadInput, match="limit of 5"):
        read_image(pixels, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 5, 3), dtype=np.float32), r"uint8 of shape .* not float32 \[4, 5, 3\]"),
        (np.zeros((4, 5, 1), dtype=np.uint8), r"not uint8 \[4, 5, 1\]"),
        (np.zeros((1, 4, 5, 3), dtype=np.uint8), r"not uint8 \[1, 4, 5, 3\]"),
        (np.zeros((0, 5, 3), dtype=np.uint8), "5 x 0 pixels"),
        (torch.zeros(1, 3, 4, 5), "a Pillow image or a uint8 array, not Tensor"),
        (None, "not NoneType"),
        (7, "not int"),
    ],
)
def test_invalid_arrays_and_objects_are_rejected(given, message):
    with pytest.raises(BadInput, match=message):
        read_image(given)
