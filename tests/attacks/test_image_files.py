"""Malicious images are read or refused with one sentence, in little time and memory."""

import gzip
import io
import struct
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from sfumato.data.pixels import open_drawing
from sfumato.errors import BadInput
from sfumato.images import read_image, read_mask
from sfumato.images.read import opened
from sfumato.images.structure import count_frames
from tests.attacks.limits import peak, place, refused
from tests.images.make import chunk, encoded, noise, png

#: Limits for each image: CPU seconds, and bytes of memory beyond the current peak of the process.
CPU, MEMORY = 5.0, 1 << 30


def zeros(count):
    """A zlib stream of `count` zero bytes, rounded down to whole MiB."""
    pack, block = zlib.compressobj(9), bytes(1 << 20)
    return b"".join([pack.compress(block) for _ in range(count >> 20)] + [pack.flush()])


def dot(*extra):
    return png(1, 1, 8, 2, [b"\0\0\0"], *extra)


FRAME = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"


def gif(*blocks, width=1, height=1):
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0)
    return b"GIF89a" + screen + b"\0\0\0\xff\xff\xff" + b"".join(blocks) + b";"


def comment(count):
    return b"!\xfe" + (b"\xff" + b"a" * 255) * count + b"\0"


def tiff(pages, nxt=None):
    """A TIFF of one strip with a chain of `pages` equal directories; the last one points to the offset `nxt`."""
    fields = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, 16)]
    body = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in fields)
    size = 2 + len(body) + 4
    links = [8 + (n + 1) * size for n in range(pages - 1)] + [nxt or 0]
    directories = [struct.pack("<H", len(fields)) + body + struct.pack("<I", link) for link in links]
    return b"II*\0\x08\0\0\0" + b"".join(directories)


BOMBS = {
    "pixels": lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)),
    "more data than pixels": lambda: dot(chunk(b"IDAT", zeros(64 << 20))),
    "text": lambda: dot(chunk(b"zTXt", b"k\0\0" + zeros(64 << 20))),
    "recipe": lambda: dot(chunk(b"iTXt", b"sfumato\0\1\0\0\0" + zeros(64 << 20))),
    "profile": lambda: dot(chunk(b"iCCP", b"x\0\0" + zeros(64 << 20))),
    "many texts": lambda: dot(*[chunk(b"tEXt", b"k%d\0v" % n) for n in range(50_000)]),
    "many empty chunks": lambda: dot(*[chunk(b"zzZz", b"")] * 100_000),
    "many empty data chunks": lambda: dot(*[chunk(b"IDAT", b"")] * 100_000),
    "chunk that is too long": lambda: b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**32 - 1) + b"IHDR" + bytes(20),
    "comment": lambda: gif(comment(200_000), FRAME),
    "comments": lambda: gif(*[comment(10)] * 20_000, FRAME),
    "many frames": lambda: gif(*[FRAME] * 200_000),
    "comment after the frame": lambda: gif(FRAME, comment(200_000), FRAME),
    "large screen": lambda: gif(FRAME, width=65535, height=65535),
    "many pages": lambda: tiff(30_000),
    "pages in a circle": lambda: tiff(3, nxt=8),
    "page beyond the end": lambda: tiff(2, nxt=2**32 - 1),
    "bitmap": lambda: encoded(noise(), "BMP")[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bytes(40),
}


@pytest.mark.parametrize("name", BOMBS)
def test_malicious_images_take_little_time_and_memory(name):
    content, before, began = BOMBS[name](), peak(), time.process_time()
    with suppress(BadInput):
        assert read_image(content).rgb.dtype == np.uint8
    with pytest.raises(BadInput):
        read_mask(content, (3, 3))
    assert time.process_time() - began < CPU
    assert peak() - before < MEMORY


@pytest.mark.parametrize("name", ["many texts", "many empty chunks", "many empty data chunks", "comment", "comments"])
def test_slow_images_are_refused_before_decoding(name, monkeypatch):
    content = BOMBS[name]()
    monkeypatch.setattr(Image, "open", None)
    with refused("which takes too long to decode"):
        read_image(content)


def test_frame_count_equals_that_of_pillow():
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(4)]
    for file_format in ("GIF", "TIFF"):
        for count in (1, 2, 4):
            more = {"save_all": True, "append_images": frames[1:count]} if count > 1 else {}
            for content in (
                encoded(frames[0], file_format, **more),
                encoded(frames[0], file_format, comment=b"c", **more),
            ):
                with Image.open(io.BytesIO(content)) as image:
                    assert count_frames(image.fp, file_format) == image.n_frames == count
    assert "animated: first frame of 3 used" in read_image(gif(FRAME, comment(2), FRAME, FRAME)).note
    assert "3 images in one file" in read_image(tiff(3, nxt=8)).note
    assert "later ones damaged" in read_image(tiff(2, nxt=2**32 - 1)).note
    assert "first frame of 100000 or more used" in read_image(BOMBS["many frames"]()).note


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touched) (w) file\nshowpage\n"
FOREIGN = {
    "postscript": POSTSCRIPT,
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "portable": b"P6\n4 4\n255\n" + bytes(48),
    "targa": bytes(18) + bytes(48),
    "gzip": gzip.compress(POSTSCRIPT),
    "psd": b"8BPS\0\1" + bytes(40),
    "icon": b"\0\0\1\0\1\0" + bytes(60),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_unsupported_formats_are_refused(tmp_path, content, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    (tmp_path / "a.png").write_bytes(content)
    with refused("a.png"):
        read_image(tmp_path / "a.png")
    with refused("a.png"), open_drawing(tmp_path / "a.png"):
        pass


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_corpus_images_must_be_png(tmp_path, file_format):
    (tmp_path / "a.png").write_bytes(encoded(noise(), file_format))
    assert read_image(tmp_path / "a.png").size == (17, 13)
    with refused("a.png"), open_drawing(tmp_path / "a.png"):
        pass


def test_endless_files_are_refused_and_names_are_escaped(tmp_path):
    whole = encoded(noise(), "PNG")
    for name, start in (("zeros.png", b""), ("half.png", whole[:60])):
        with open(tmp_path / name, "wb") as file:
            file.write(start)
            file.truncate(1 << 40)
        with refused(name):
            read_image(tmp_path / name)
    for name in ("\x1b]0;title\x07.png", "new\nline.png", "\u202egnp.exe.png"):
        (tmp_path / name).write_bytes(whole[:90])
        with refused(r"\\x1b|\\n|\\u202e"):
            read_image(tmp_path / name)
    with refused("not a regular file"), opened(place(tmp_path, "fifo", "pipe.png"), 100):
        pass
