"""The recipe inside a PNG: written only on request, and validated when it is read."""

import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from images import make
from sfumato.errors import BadInput
from sfumato.images import read_recipe, write_image

RECIPE = {
    "model": "emoji",
    "prompt": "ein grüner Apfel 🍏",
    "seed": 7,
    "guidance_scale": 4.5,
    "mask": None,
    "steps": [1, 2],
}


def with_text(text, kind=b"tEXt"):
    """A PNG with `text` under the keyword of sfumato, as another program could write it."""
    head = {b"tEXt": b"sfumato\0", b"iTXt": b"sfumato\0\0\0\0\0", b"zTXt": b"sfumato\0\0"}[kind]
    content = text.encode("latin-1" if kind != b"iTXt" else "utf-8")
    return make.png(
        2, 2, 8, 2, [bytes(6)] * 2, make.chunk(kind, head + (zlib.compress(content) if kind == b"zTXt" else content))
    )


def test_recipe_round_trip(tmp_path):
    write_image(tmp_path / "out.png", make.noise(), recipe=RECIPE)
    assert read_recipe(tmp_path / "out.png") == RECIPE


def test_recipe_is_one_itxt_chunk_and_optional(tmp_path):
    path = tmp_path / "out.png"
    write_image(path, make.noise(), recipe=RECIPE)
    texts = [(kind, data) for kind, data in make.chunks(path.read_bytes()) if b"Xt" in kind or kind == b"eXIf"]
    assert [kind for kind, _ in texts] == [b"iTXt"]
    assert texts[0][1].startswith(b"sfumato\0")
    write_image(path, make.noise())
    assert {kind for kind, _ in make.chunks(path.read_bytes())} == {b"IHDR", b"IDAT", b"IEND"}
    with pytest.raises(BadInput, match=r"out\.png contains no sfumato recipe"):
        read_recipe(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_any_json_object_round_trips(tmp_path_factory, recipe):
    path = tmp_path_factory.mktemp("recipe") / "out.png"
    write_image(path, make.noise(2, 2), recipe=recipe)
    assert read_recipe(path) == recipe


def test_non_finite_numbers_are_written_as_strings(tmp_path):
    path = tmp_path / "out.png"
    write_image(path, make.noise(), recipe={"psnr": [float("inf"), 1.5], "more": {"ssim": float("nan")}})
    assert read_recipe(path) == {"psnr": ["inf", 1.5], "more": {"ssim": "nan"}}


def test_recipe_with_undecodable_text_is_written(tmp_path):
    write_image(tmp_path / "out.png", make.noise(), recipe={"prompt": "caf\udce9"})
    assert read_recipe(tmp_path / "out.png") == {"prompt": "caf\udce9"}


def test_format_without_recipe_support_is_noted(tmp_path):
    assert "cannot store the recipe" in write_image(tmp_path / "out.bmp", make.noise(), recipe=RECIPE)
    with pytest.raises(BadInput, match="no sfumato recipe"):
        read_recipe(tmp_path / "out.bmp")


@pytest.mark.parametrize(
    "text",
    [
        "", "no json", "[1, 2]", '"text"', "3", "null", '{"a": NaN}', '{"a": Infinity}', '{"a": 1', "{'a': 1}",
        "[" * 100_000, '{"a":' * 50_000, '{"n": ' + "9" * 5000 + "}", "\0\0",
    ],
)  # fmt: skip
def test_recipe_that_is_no_json_object_is_rejected(text):
    with pytest.raises(BadInput, match=r"recipe"):
        read_recipe(with_text(text))


@pytest.mark.parametrize("kind", [b"tEXt", b"iTXt", b"zTXt"])
def test_too_long_recipe_is_rejected(kind):
    with pytest.raises(BadInput):
        read_recipe(with_text(json.dumps({"a": "x" * 1_000_001}), kind))
    assert read_recipe(with_text(json.dumps({"a": "x" * 1000}), kind)) == {"a": "x" * 1000}


def test_too_long_recipe_is_not_written(tmp_path):
    with pytest.raises(BadInput, match="shorten"):
        write_image(tmp_path / "out.png", make.noise(), recipe={"a": "x" * 1_000_001})
    assert list(tmp_path.iterdir()) == []


def test_recipe_after_the_pixels_is_found():
    data = with_text('{"a": 1}')
    text = next(make.chunk(*part) for part in make.chunks(data) if part[0] == b"tEXt")
    end = make.chunk(b"IEND", b"")
    assert read_recipe(data.replace(text, b"").replace(end, text + end)) == {"a": 1}


def test_unreadable_files_are_rejected(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_recipe(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("{}")
    with pytest.raises(BadInput, match="text"):
        read_recipe(tmp_path / "text.png")
    data = with_text('{"a": 1}')
    with pytest.raises(BadInput):
        read_recipe(data[: len(data) // 2])


def test_recipe_is_interoperable_with_pillow(tmp_path):
    write_image(tmp_path / "out.png", make.noise(), recipe=RECIPE)
    with Image.open(tmp_path / "out.png") as image:
        assert json.loads(image.text["sfumato"]) == RECIPE
    info = PngInfo()
    info.add_text("sfumato", '{"a": 1}')
    assert read_recipe(make.encoded(make.noise(), "PNG", pnginfo=info)) == {"a": 1}
