"""Fuzz tests of all file readers: a damaged file is read, or refused with one sentence.

Every case is determined by its number. A failure names the kind of file and the number; `case` reproduces it.
"""

import json
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from sfumato.bench.journal import Journal
from sfumato.bench.piebench import IMAGES, MAPPING, PieBench
from sfumato.bench.settings import read_settings
from sfumato.cli.commands import COMMANDS, parse
from sfumato.data.imagefolder import METADATA, read_metadata
from sfumato.errors import BadInput
from sfumato.geometry import Directions
from sfumato.images import read_image, read_mask, read_recipe
from sfumato.inversion import Inversion
from sfumato.printing import one_line
from sfumato.shifts.banks import read_bank
from sfumato.shifts.text_direction import TextDirection
from sfumato.train.recipe import load_recipe
from tests.attacks.limits import at_once
from tests.images.make import encoded, noise, srgb_profile

CASES = 300
TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\ud800",
        "\udcff",
        "\u202e",
        "\ufeff",
        "\x1b[31m",
        "a\nb",
        "\r",
        "\u2028",
        "\x85",
        "\x7f",
        "\x9b",
    ),
    *(
        "a" * 10_000,
        "é" * 300,
        "9" * 5000,
        "1e400",
        "nan",
        "½",
        "٣",
        "²",
        "../../etc/passwd",
        "/dev/zero",
        "<|endoftext|>",
    ),
    *("<|endoftext|>", "👩‍👩‍👧‍👦", "שלום", "%s{0}", "true", "null", "-o", "=", ",", ";"),
)
VALUES = (
    *(None, True, False, 0, 1, -1, 2.5, float("nan"), float("inf"), 1e308, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400),
    *([], {}, [[]], [None], ["a"], {"a": 1}, *TEXTS),
)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Change, remove, insert or cut off bytes, mostly near the start."""
    out = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        at = draw.randrange(min(len(out), draw.choice((120, 10**9))) or 1)
        kind = draw.random()
        if kind < 0.5 and out:
            out[at % len(out)] = draw.choice((0, 255, 127, draw.randrange(256)))
        elif kind < 0.65:
            del out[at : at + draw.choice((1, 4, 50))]
        elif kind < 0.8:
            out[at:at] = bytes(draw.choice((1, 4, 50)))
        elif kind < 0.9:
            out[at : at + 4] = struct.pack(draw.choice("<>") + "I", draw.choice((0, 1, 2**31 - 1, 2**32 - 1, 100_000)))
        else:
            out = out[:at]
    return bytes(out)


def changed(value: Any, draw: random.Random) -> Any:
    """Replace, remove or add one or a few entries of a JSON value."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        places = list(_places(value))
        if not places or draw.random() < 0.03:
            return draw.choice(VALUES)
        container, key = draw.choice(places)
        kind = draw.random()
        if kind < 0.65:
            container[key] = draw.choice(VALUES)
        elif kind < 0.8:
            del container[key]
        elif isinstance(container, list):
            container.append(draw.choice(VALUES))
        else:
            container[draw.choice(TEXTS)] = draw.choice(VALUES)
    return value


def _places(value: Any) -> Any:
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(found):
        yield value, key
        yield from _places(inner)


def as_json(value: Any, draw: random.Random) -> bytes:
    """The changed value as JSON; sometimes damaged or invalid text instead."""
    kind = draw.random()
    if kind < 0.05:
        depth = draw.choice((70, 500, 990, 50_000))
        return draw.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"1" * 5000, b""))
    if kind < 0.2:
        return damaged(json.dumps(value).encode(), draw)
    try:
        return json.dumps(changed(value, draw)).encode()
    except ValueError:  # an integer with more digits than Python converts to text
        return b"{}"


def right_again(content: bytes) -> bytes:
    """Recompute the checksums of a PNG's chunks, so that the damage reaches the decoder."""
    if content[:4] != b"\x89PNG":
        return content
    out, at = content[:8], 8
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        data = content[at + 8 : at + 8 + length]
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        at += 12 + length
    return out


def valid_images() -> list[bytes]:
    rgb, rgba = Image.fromarray(noise()), Image.fromarray(noise(channels=4))
    grey = rgb.convert("L")
    return [
        *(encoded(rgb, name) for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")),
        *(encoded(rgba, name) for name in ("PNG", "WEBP", "TIFF")),
        *(encoded(rgb, name, icc_profile=srgb_profile()) for name in ("PNG", "JPEG", "WEBP")),
        *(encoded(rgb.convert("P"), name) for name in ("PNG", "BMP")),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(rgb.convert("LAB"), "TIFF"),
        encoded(rgb, "TIFF", compression="tiff_lzw"),
        encoded(rgb.convert("1"), "TIFF", compression="group4"),
        encoded(Image.fromarray(np.asarray(grey, np.uint16) * 257), "TIFF"),
        *(encoded(rgb, name, save_all=True, append_images=[rgb, rgb]) for name in ("GIF", "WEBP", "TIFF", "MPO")),
    ]


def image(folder: Path, draw: random.Random) -> None:
    content = damaged(draw.choice(VALID_IMAGES), draw)
    content = right_again(content) if draw.random() < 0.7 else content
    read_image(content, max_pixels=4_000_000)
    read_mask(content, (17, 13), max_pixels=4_000_000)


def recipe(folder: Path, draw: random.Random) -> None:
    text = as_json({"operation": "edit", "prompt": "x", "seed": 0, "region": {"words": ["a"]}}, draw)
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt("sfumato", text.decode("utf-8", "replace"), zip=draw.random() < 0.3)
    content = encoded(Image.new("RGB", (1, 1)), "PNG", pnginfo=chunk)
    json.dumps(read_recipe(content if draw.random() < 0.8 else right_again(damaged(content, draw))))


def kept(folder: Path, draw: random.Random) -> None:
    """Saved inversions, directions and text directions."""
    kind, header, tensors = draw.choice(KEPT)
    path = folder / "a.safetensors"
    tensors = {name: draw.choice(ODD) if draw.random() < 0.2 else tensor for name, tensor in tensors.items()}
    kind.FORMAT.write(path, {}, tensors)
    content = path.read_bytes()
    start = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    start["__metadata__"]["sfumato"] = as_json(header, draw).decode("utf-8", "replace")
    text = json.dumps(start).encode()
    body = content[8 + int.from_bytes(content[:8], "little") :]
    text = damaged(text, draw) if draw.random() < 0.2 else text
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    kind.load(path)


def toml(folder: Path, draw: random.Random) -> None:
    lines = (Path("recipes") / "emoji-autoencoder.toml").read_text(encoding="utf-8").splitlines()
    rows = ["[[row]]", 'name = "a"', 'method = "edit-friendly"', "steps = 10", "guidance_scale = 3.0"]
    read, lines = draw.choice(((load_recipe, lines), (read_settings, rows)))
    values = (
        "nan",
        "[]",
        "{}",
        '""',
        '"a\\u0000"',
        "1" * 5000,
        "[" * 3000 + "]" * 3000,
        "a.b = 1",
        "1979-05-27",
        "'\\'",
    )
    n = draw.randrange(len(lines))
    lines = [*lines[:n], lines[n].partition("=")[0] + "= " + draw.choice(values), *lines[n + 1 :]]
    content = "\n".join(lines).encode()
    (folder / "a.toml").write_bytes(damaged(content, draw) if draw.random() < 0.3 else content)
    read(folder / "a.toml")


def journal(folder: Path, draw: random.Random) -> None:
    lines = [{"model": "m"}, {"setting": "s", "item": "0", "scores": {"a": 1.0}, "seconds": 1.0}]
    (folder / "journal.jsonl").write_bytes(
        b"\n".join(as_json(line, draw) for line in lines) + draw.choice((b"\n", b"", b"\n{"))
    )
    with Journal(folder, {"model": "m"}) as opened:
        opened.done("s", "0", "x")


def metadata(folder: Path, draw: random.Random) -> None:
    (folder / "1.png").write_bytes(VALID_IMAGES[0])
    rows = [as_json({"file_name": "1.png", "text": "a"}, draw) for _ in range(2)]
    (folder / METADATA).write_bytes(b"\n".join(rows))
    read_metadata(folder)


def mapping(folder: Path, draw: random.Random) -> None:
    (folder / IMAGES).mkdir(exist_ok=True)
    (folder / IMAGES / "a.png").write_bytes(VALID_IMAGES[0])
    entry = {"image_path": "a.png", "original_prompt": "a [cat]", "editing_prompt": "a", "mask": [3, 5, 10, 2]}
    (folder / MAPPING).write_bytes(as_json({"0": entry | {"editing_type_id": "1"}}, draw))
    for item in PieBench(folder).items:
        assert isinstance(item.stamp, str)
        json.dumps([item.name, item.kind, item.source_text, item.target_text]).encode()
        with suppress(BadInput):
            item.load()


def bank(folder: Path, draw: random.Random) -> None:
    lines = "\n".join(draw.choice(TEXTS) for _ in range(draw.randrange(6))).encode("utf-8", "surrogatepass")
    (folder / "bank.txt").write_bytes(damaged(lines, draw) if draw.random() < 0.3 else lines)
    read_bank(folder / "bank.txt")


def words(folder: Path, draw: random.Random) -> None:
    flags = (
        "--from",
        "--to",
        "-o",
        "--grid",
        "--seed",
        "--steps",
        "--max-pixels",
        "--size",
        "--out",
        "--method",
        "--json",
    )
    typed = [draw.choice((draw.choice(flags), draw.choice(TEXTS), "x.png", "1")) for _ in range(draw.randrange(9))]
    parse([draw.choice([*COMMANDS, draw.choice(TEXTS)]), *typed])


VALID_IMAGES = valid_images()
ODD = [
    *(torch.zeros(0), torch.tensor(1.0), torch.full((3, 2, 4, 8, 8), float("nan")), torch.zeros(3, 2, 4, 8, 8).half()),
    *(torch.zeros(3, 2, 4, 8, 8, dtype=torch.int64), torch.zeros(2, 32, 32, 3, dtype=torch.uint8), torch.zeros(3, 5)),
]
KEPT: list[tuple[Any, dict[str, Any], dict[str, torch.Tensor]]] = [
    (
        Inversion,
        {
            "kind": "edit-friendly", "timesteps": [500, 0], "eta": 1.0, "guidance_scales": [3.5, 3.5], "seeds": [0, 1],
            "prompts": ["a", "b"], "parameters": {"steps": 2}, "model": "", "images": ["h", "h"],
        },
        {"x": torch.zeros(3, 2, 4, 8, 8), "z": torch.zeros(2, 2, 4, 8, 8)},
    ),
    (
        Directions,
        {
            "names": ["a", "b"], "kind": "pca", "model": "m", "t": 5, "steps": 10, "step": 3, "latent": [4, 8, 8],
            "pool": "sum", "values": [1.0, 2.0], "overlap": [0.5, 1.0], "samples": 9, "prompts": ["a"],
        },
        {"u": torch.eye(2)},
    ),
    (TextDirection, {"model": "m", "source": ["a"], "target": ["b"]}, {"tokens": torch.zeros(2, 3)}),
]  # fmt: skip
KINDS: tuple[Callable[[Path, random.Random], None], ...] = (
    image, recipe, kept, toml, journal, metadata, mapping, bank, words,
)  # fmt: skip


def case(kind: Callable[[Path, random.Random], None], number: int, folder: Path) -> None:
    """Create the file with this number and read it."""
    folder.mkdir(exist_ok=True)
    with at_once():
        kind(folder, random.Random(f"{kind.__name__} {number}"))


def ending(kind: Callable[[Path, random.Random], None], number: int, folder: Path) -> str:
    """The message that refuses a case, or "" if it is read. Other errors become an AssertionError with the number."""
    try:
        case(kind, number, folder)
    except BadInput as error:
        return str(error)
    except SystemExit:  # after --help
        return ""
    except Exception as error:
        raise AssertionError(f"{kind.__name__} {number}") from error
    return ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_damaged_file_is_read_or_refused(kind, tmp_path, capsys):
    sentences = [ending(kind, number, tmp_path / str(number)) for number in range(CASES)]
    assert len(list(filter(None, sentences))) > CASES // 20
    for number, sentence in enumerate(sentences):
        assert one_line(sentence) == sentence, f"{kind.__name__} {number}"
