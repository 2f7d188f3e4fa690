"""Writing images: pixels, alpha and mode are kept, writes are atomic, and private metadata is not copied."""

import errno
import os
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from images import make
from sfumato.errors import BadInput, NonFinite
from sfumato.images import LoadedImage, check_output, read_image, to_tensor, write_image
from sfumato.images.loaded_image import composite, uncomposite

LOSSLESS = [".png", ".webp", ".tiff", ".tif", ".bmp"]


@pytest.mark.parametrize("extension", LOSSLESS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_unchanged_pixels_are_identical(tmp_path, extension, mode):
    if extension == ".bmp" and "A" in mode:
        pytest.skip("BMP holds no alpha")
    image = Image.frombytes(mode, (17, 13), make.noise(channels=len(mode)).tobytes())
    source = read_image(make.encoded(image, "PNG"))
    path = tmp_path / f"out{extension}"
    for pixels in (source.rgb, to_tensor(source)):
        assert write_image(path, pixels, source) == ""
        written = Image.open(path)
        assert written.mode == mode or extension == ".webp"  # WebP has no grey mode
        np.testing.assert_array_equal(np.asarray(written.convert(mode)), np.asarray(image))


def test_one_bit_and_palette_images_keep_their_colours(tmp_path):
    for mode in ("1", "P"):
        image = Image.fromarray(make.smooth()).convert(mode)
        source = read_image(make.encoded(image, "PNG"))
        write_image(tmp_path / "out.png", source.rgb, source)
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "out.png").convert("RGB")), np.asarray(image.convert("RGB"))
        )


def test_jpeg_has_small_error_and_no_chroma_subsampling(tmp_path):
    for extension in (".jpg", ".JPEG"):
        write_image(tmp_path / f"out{extension}", make.smooth())
        written = Image.open(tmp_path / f"out{extension}")
        assert np.abs(np.asarray(written).astype(int) - make.smooth()).mean() < 2
        assert [layer[1:3] for layer in written.layer] == [(1, 1)] * 3


def test_grey_image_with_colour_edit_is_written_in_colour(tmp_path):
    source = read_image(make.encoded(make.noise(channels=1), "PNG"))
    edited = source.rgb.copy()
    edited[0, 0] = (200, 10, 10)
    write_image(tmp_path / "out.png", edited, source)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), edited)


def test_alpha_is_kept_and_the_composited_edit_matches(tmp_path):
    pixels = make.noise(40, 40, 4)
    source = read_image(make.encoded(pixels, "PNG"))
    edited = source.rgb.copy()
    # a change that the alpha can express: other colours, composited with the same alpha
    other = np.asarray(make.noise(40, 40, 3, seed=1))
    edited[:20] = composite(other, pixels[..., 3], (255, 255, 255))[:20]
    write_image(tmp_path / "out.png", edited, source)
    stored = np.asarray(Image.open(tmp_path / "out.png"))
    np.testing.assert_array_equal(stored[..., 3], pixels[..., 3])
    np.testing.assert_array_equal(stored[20:], pixels[20:])
    assert np.abs(read_image(tmp_path / "out.png").rgb.astype(int) - edited).max() <= 1


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_uncomposite_inverts_composite_within_8_bits(level, alpha, under):
    straight, share = np.full((1, 1, 3), level, np.uint8), np.full((1, 1), alpha, np.uint8)
    composed = composite(straight, share, (under,) * 3)
    assert composed[0, 0, 0] == round((alpha * level + (255 - alpha) * under) / 255)
    back = uncomposite(composed, share, (under,) * 3)
    np.testing.assert_array_equal(composite(back, share, (under,) * 3), composed)
    if alpha == 255:
        assert back[0, 0, 0] == level


def test_formats_without_alpha_or_profile_give_a_note(tmp_path):
    source = read_image(
        make.encoded(make.noise(channels=4), "PNG", icc_profile=make.wide_profile()), background=(0, 90, 0)
    )
    note = write_image(tmp_path / "out.jpg", source.rgb, source)
    assert "cannot store transparency" in note
    assert Image.open(tmp_path / "out.jpg").info["icc_profile"] == make.wide_profile()
    note = write_image(tmp_path / "out.bmp", source.rgb, source)
    assert "cannot store transparency" in note
    assert "sRGB" in note
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.bmp")), source.rgb)


def test_gps_position_and_text_are_not_copied(tmp_path):
    source_file = tmp_path / "private.png"
    description = make.chunk(b"tEXt", b"Comment\0my home")
    data = make.encoded(make.noise(), "PNG", exif=make.exif(6, gps=True))
    source_file.write_bytes(data[:33] + description + data[33:])
    source = read_image(source_file)
    for extension in (".png", ".jpg", ".webp", ".tiff", ".bmp"):
        path = tmp_path / f"out{extension}"
        write_image(path, source.rgb, source)
        assert b"my home" not in path.read_bytes()
        assert not Image.open(path).getexif().get_ifd(0x8825)
    kinds = {kind for kind, _ in make.chunks((tmp_path / "out.png").read_bytes())}
    assert kinds == {b"IHDR", b"IDAT", b"IEND", b"eXIf"}


def test_check_output_rejects_invalid_paths_and_sizes(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    refusals = {
        tmp_path / "out.heic": ".png, .jpg",
        tmp_path / "out": "extension",
        tmp_path / "out.png.exe": "extension",
        tmp_path / "folder.png": "folder",
        tmp_path / "pipe.png": "regular file",
        tmp_path / "missing" / "out.png": "create it first",
        tmp_path / "nul\0.png": "output path",
    }
    for path, word in refusals.items():
        for refuse in (check_output, lambda p: write_image(p, make.noise())):
            with pytest.raises(BadInput, match=word):
                refuse(path)
    assert sorted(os.listdir(tmp_path)) == ["folder.png", "pipe.png"]
    assert check_output(tmp_path / "OUT.PNG") == tmp_path / "OUT.PNG"
    with pytest.raises(BadInput, match="65500"):
        check_output(tmp_path / "wide.jpg", (70_000, 1))
    with pytest.raises(BadInput, match="16383"):
        check_output(tmp_path / "wide.webp", (1, 20_000))


def test_unwritable_folder_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(BadInput, match="may not be written"):
        check_output(tmp_path / "out.png")


def test_invalid_sizes_and_shapes_are_rejected(tmp_path):
    source = read_image(make.encoded(make.noise(), "PNG"))
    path = tmp_path / "out.png"
    with pytest.raises(BadInput, match="17 x 13"):
        write_image(path, make.noise(13, 16), source)
    for bad in (make.noise(channels=1), make.noise(channels=4), make.noise().astype(float), make.noise()[:0]):
        with pytest.raises(BadInput, match="uint8"):
            write_image(path, bad)
    with pytest.raises(BadInput, match=r"\[3, h, w\]"):
        write_image(path, torch.zeros(2, 3, 4, 4))
    with pytest.raises(NonFinite):
        write_image(path, torch.full((1, 3, 4, 4), torch.nan))
    assert os.listdir(tmp_path) == []


def test_failed_write_keeps_only_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.png"
    write_image(path, make.noise())
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match=r"out\.png .*No space.*make room"):
        write_image(path, make.noise(seed=1))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["out.png"]


def test_kill_during_writes_leaves_a_complete_file(tmp_path):
    path = tmp_path / "out.png"
    writer = (
        "import sys, numpy as np\nfrom sfumato.images import write_image\n"
        "images = [np.random.default_rng(i).integers(0, 256, (400, 400, 3), dtype=np.uint8) for i in range(2)]\n"
        "write_image(sys.argv[1], images[1])\n"
        "print('ready', flush=True)\n"
        "while True:\n    for image in images:\n        write_image(sys.argv[1], image)\n"
    )
    for attempt in range(5):
        with subprocess.Popen([sys.executable, "-c", writer, path], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.05 + 0.013 * attempt)
            process.kill()
        assert read_image(path).size == (400, 400)


def test_links_are_followed_and_umask_is_used(tmp_path):
    target = tmp_path / "target.png"
    write_image(target, make.noise())
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    link = tmp_path / "link.png"
    link.symlink_to(target)
    write_image(link, make.noise(seed=1))
    assert link.is_symlink()
    np.testing.assert_array_equal(read_image(target).rgb, make.noise(seed=1))


def test_undecodable_and_long_file_names_can_be_written(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    write_image(path, make.noise())
    assert read_image(path).size == (17, 13)
    longest = tmp_path / ("n" * 251 + ".png")
    write_image(longest, make.noise())
    assert longest.exists()


def test_image_is_immutable():
    source = read_image(make.encoded(make.noise(), "PNG"))
    with pytest.raises(AttributeError):
        source.note = "changed"
    assert isinstance(source, LoadedImage)
