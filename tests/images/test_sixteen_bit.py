"""16-bit images keep their samples: PNG and TIFF, grey and colour, all PNG filters, deflated TIFF."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from images import make
from sfumato.images import read_image, read_mask, read_recipe, write_image
from sfumato.images.sixteen_bit import eight_bits, samples_of_16_bits
from sfumato.images.sixteen_bit_png import encode_png
from sfumato.images.sixteen_bit_tiff import encode_tiff
from sfumato.images.tiff import entries


def samples(channels, h=20, w=31, seed=0):
    values = np.random.default_rng(seed).integers(0, 65536, (h, w, channels), dtype=np.uint16)
    return values[..., 0] if channels == 1 else values


def stored(data):
    with Image.open(io.BytesIO(data)) as image:
        return samples_of_16_bits(image)


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_unchanged_samples_are_identical(tmp_path, channels, extension):
    values = samples(channels)
    source = read_image(encode_png(values))
    path = tmp_path / f"out{extension}"
    assert write_image(path, source.rgb, source, {"seed": 3}) == ""
    grey_alpha = channels == 2 and extension == ".tif"  # written as RGB and alpha
    np.testing.assert_array_equal(stored(path.read_bytes()), values[..., [0, 0, 0, 1]] if grey_alpha else values)
    assert read_recipe(path) == {"seed": 3}
    assert source.samples16 is not None


@pytest.mark.parametrize("channels", [1, 3])
def test_an_edit_is_added_to_the_samples(tmp_path, channels):
    ramp = np.linspace(9000, 50000, 20 * 31).reshape(20, 31).astype(np.uint16)
    values = ramp if channels == 1 else np.stack([ramp] * 3, axis=-1)
    source = read_image(encode_png(values))
    edited = source.rgb.copy()
    edited[5:9] += 10
    write_image(tmp_path / "out.png", edited, source)
    found = stored((tmp_path / "out.png").read_bytes()).astype(int)
    np.testing.assert_array_equal(np.delete(found, slice(5, 9), 0), np.delete(values, slice(5, 9), 0))
    np.testing.assert_array_equal(found[5:9], values[5:9].astype(int) + 2570)


def test_grey_image_with_colour_edit_is_written_in_colour(tmp_path):
    values = samples(1) // 2
    source = read_image(encode_png(values))
    edited = source.rgb.copy()
    edited[3, 4, 0] += 100
    write_image(tmp_path / "out.png", edited, source)
    found = stored((tmp_path / "out.png").read_bytes())
    assert found.shape == (20, 31, 3)
    np.testing.assert_array_equal(found[..., 1], values)


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_grey_image_with_a_profile_for_rgb_is_written_in_rgb(tmp_path, channels, extension):
    """A PNG of one channel cannot have such a profile (section 11.3.2.3)."""
    values, profile = samples(channels), make.chunk(b"iCCP", b"x\0\0" + zlib.compress(make.wide_profile()))
    source, path = read_image(encode_png(values, profile)), tmp_path / f"out{extension}"
    write_image(path, source.rgb, source)
    np.testing.assert_array_equal(
        stored(path.read_bytes()), np.dstack([values] * 3 if channels == 1 else [*[values[..., 0]] * 3, values[..., 1]])
    )
    assert read_image(path).icc == make.wide_profile()


def grey_tiff(values, bits, white_is_zero=False):
    """An uncompressed grey TIFF: 12 bits packed without gaps, 16 bits, or floats of 32 bits."""
    height, width = values.shape
    if bits == 12:
        even, odd = values.reshape(-1, 2).T.astype(int)
        pixels = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=1).astype(np.uint8).tobytes()
    else:
        pixels = values.astype({16: "<u2", 32: "<f4"}[bits]).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 134, 277: 1, 278: height}
    tags |= {279: len(pixels), 339: 3 if bits == 32 else 1}
    directory = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, tags[tag]) for tag in tags)
    return (struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory).ljust(134, b"\0") + pixels


def test_tiff_greys_are_scaled_from_black_to_white():
    """For every white level: 65535, 0, or 4095 of 12 bits."""
    values = samples(1, 8, 10)
    for data in (grey_tiff(values, 16), grey_tiff(65535 - values, 16, white_is_zero=True)):
        image = read_image(data)
        np.testing.assert_array_equal(image.samples16, values)
        np.testing.assert_array_equal(image.rgb[..., 0], np.rint(values / 257))
        np.testing.assert_array_equal(read_mask(data, (10, 8)).weights, np.float32(np.rint(values / 257) / 255))
    twelve = values >> 4
    image = read_image(grey_tiff(twelve, 12))
    np.testing.assert_array_equal(image.samples16, np.rint(twelve / 4095 * 65535))
    np.testing.assert_array_equal(image.rgb[..., 0], np.rint(twelve / 4095 * 255))
    assert read_mask(grey_tiff(twelve | 4095, 12), (10, 8)).note == ""
    shares = values / 65535
    image = read_image(grey_tiff(1 - shares, 32, white_is_zero=True))
    np.testing.assert_allclose(image.rgb[..., 0], shares * 255, atol=0.501)


def test_profile_and_resolution_are_kept(tmp_path):
    first = encode_png(samples(3), make.chunk(b"iCCP", b"x\0\0" + zlib.compress(make.wide_profile())))
    source = read_image(first[:33] + make.chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1)) + first[33:])
    assert source.icc == make.wide_profile()
    for extension in (".png", ".tif"):
        write_image(tmp_path / f"out{extension}", source.rgb, source)
        again = read_image(tmp_path / f"out{extension}")
        np.testing.assert_array_equal(again.samples16, source.samples16)
        assert again.icc == make.wide_profile()
        assert again.dpi == pytest.approx((300, 300), abs=0.01)


def test_8_bit_formats_are_written_in_8_bits(tmp_path):
    source = read_image(encode_png(samples(3)))
    for extension in (".webp", ".jpg", ".bmp"):
        write_image(tmp_path / f"out{extension}", source.rgb, source)
        assert read_image(tmp_path / f"out{extension}").samples16 is None


def filtered(values):
    """The rows of a PNG, with filter y % 5 in row y, by the standard's definitions."""
    rows, out = values.astype(">u2").tobytes(), bytearray()
    height, step = len(values), 2 * (values.shape[2] if values.ndim == 3 else 1)
    raw = np.frombuffer(rows, np.uint8).reshape(height, -1).astype(int)
    for y in range(height):
        out.append(y % 5)
        for i in range(raw.shape[1]):
            left = raw[y, i - step] if i >= step else 0
            up = raw[y - 1, i] if y else 0
            corner = raw[y - 1, i - step] if y and i >= step else 0
            far = [abs(left + up - corner - each) for each in (left, up, corner)]
            paeth = (left, up, corner)[far.index(min(far))]
            out.append((raw[y, i] - (0, left, up, (left + up) // 2, paeth)[y % 5]) % 256)
    return bytes(out)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 7), (9, 1), (12, 6), (6, 13)])
def test_all_png_filters_are_decoded(channels, h, w):
    values = samples(channels, h, w)
    header = struct.pack(">IIBBBBB", w, h, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(filtered(values))), (b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + b"".join(make.chunk(*part) for part in parts)
    np.testing.assert_array_equal(stored(data), values)
    colours = 3 if channels > 2 else 1
    assert np.abs(read_image(data).native.astype(int) - (values >> 8)[..., :colours]).max() <= 1


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_deflated_tiff_with_predictor_in_both_byte_orders(channels, order):
    """As written by other programs: predictor 2, one strip, sorted tags."""
    values = samples(channels)
    stored_rows = values.copy()
    stored_rows[:, 1:] -= values[:, :-1]
    pixels, (height, width) = zlib.compress(stored_rows.astype(order + "u2").tobytes()), values.shape[:2]
    pixels += bytes(len(pixels) % 2)
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    tags = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, channels, 8 + len(pixels)), 259: (3, 1, 8), 262: (3, 1, 2),
        273: (4, 1, 8), 277: (3, 1, channels), 278: (4, 1, height), 279: (4, 1, len(pixels)), 317: (3, 1, 2),
    } | ({338: (3, 1, 2)} if channels == 4 else {})  # fmt: skip
    directory = struct.pack(order + "H", len(tags))
    for tag, (kind, count, value) in tags.items():
        short = kind == 3 and count == 1
        directory += struct.pack(order + "HHI" + ("HH" if short else "I"), tag, kind, count, value, *[0] * short)
    place = 8 + len(pixels) + len(bits)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    np.testing.assert_array_equal(stored(head + pixels + bits + directory + bytes(4)), values)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_png_samples_follow_the_orientation(orientation):
    values = samples(3)
    block = make.exif(orientation).tobytes()[6:]
    data = encode_png(values, make.chunk(b"eXIf", block))
    np.testing.assert_array_equal(read_image(data).samples16, make.UPRIGHT[orientation](values))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_samples_follow_the_orientation(orientation, channels):
    values = samples(channels)
    found = read_image(encode_tiff(values, tags={274: orientation}))
    np.testing.assert_array_equal(found.samples16, make.UPRIGHT[orientation](values))
    assert found.rgb.shape[:2] == found.samples16.shape[:2]


@pytest.mark.parametrize(("extra", "has_alpha"), [(0, False), (1, True)])
def test_fourth_sample_without_straight_alpha_is_read_by_pillow(extra, has_alpha):
    data = bytearray(encode_tiff(samples(4)))
    (place,) = (entry for entry, tag in entries(data) if tag == 338)
    struct.pack_into("<HHIHH", data, place, 338, 3, 1, extra, 0)
    found = read_image(bytes(data))
    assert (found.samples16, found.alpha is not None) == (None, has_alpha)
    assert "read in 8 bits" in found.note
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(found.native, np.asarray(image)[..., :3])


def filled(width, height, *before, kind=0):
    """An RGB PNG of zeros with 16 bits, with the same filter in every row."""
    rows = (bytes([kind]) + bytes(6 * width)) * height
    header = make.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    last = make.chunk(b"IDAT", zlib.compress(rows)) + make.chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + last


def test_malicious_files_are_not_decoded_in_16_bits(tmp_path):
    assert stored(filled(70_000, 1)) is not None
    assert stored(filled(70_000, 1, kind=4)) is None  # 70,000 steps
    second = make.chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 3, 16, 2, 0, 0, 0))
    assert stored(filled(20_000, 30, second)) is None  # Pillow found, and sfumato checked, 3 x 3
    for data, ending in ((filled(5, 4), "png"), (encode_tiff(samples(3)), "tif")):
        path = tmp_path / f"sparse.{ending}"
        path.write_bytes(data)
        with path.open("r+b") as file:
            file.truncate(1 << 34)
        assert "read in 8 bits" in read_image(path).note


def test_opened_image_is_equal_before_and_after_decoding():
    with Image.open(io.BytesIO(encode_png(samples(3)))) as image:
        first, second = read_image(image), read_image(image)
    np.testing.assert_array_equal(first.rgb, second.rgb)
    assert (first.samples16, second.samples16) == (None, None)


def test_a_transparent_level_of_grey_becomes_alpha(tmp_path):
    values = np.array([[0, 300, 65535], [300, 5, 301]], dtype=np.uint16)
    source = read_image(encode_png(values, make.chunk(b"tRNS", b"\x01\x2c")))
    write_image(tmp_path / "out.png", source.rgb, source)
    found = stored((tmp_path / "out.png").read_bytes())
    np.testing.assert_array_equal(found[..., 0], values)
    np.testing.assert_array_equal(found[..., 1], np.where(values == 300, 0, 65535))


def test_8_bit_levels_are_rounded_to_nearest():
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(eight_bits(every), np.rint(every / 257))
    values = samples(4)
    found = read_image(encode_png(values))
    np.testing.assert_array_equal(found.native, np.rint(values[..., :3] / 257))
    np.testing.assert_array_equal(found.alpha, np.rint(values[..., 3] / 257))


def test_8_bit_and_interlaced_files_have_no_16_bit_samples():
    assert stored(make.encoded(make.noise(), "PNG")) is None
    assert stored(make.encoded(make.noise(), "TIFF")) is None
    values = samples(3, 4, 4)
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 1)
    assert stored(b"\x89PNG\r\n\x1a\n" + make.chunk(b"IHDR", header) + encode_png(values)[33:]) is None


def test_damaged_data_is_rejected():
    from sfumato.errors import BadInput

    data = encode_png(samples(3))
    with pytest.raises(BadInput, match="truncated or damaged"):
        read_image(data[: len(data) // 2])


def test_16_bit_mask_is_read():
    values = np.where(samples(1) > 30000, 65535, 0).astype(np.uint16)
    np.testing.assert_array_equal(read_mask(encode_png(values), (31, 20)).weights, values / 65535)
