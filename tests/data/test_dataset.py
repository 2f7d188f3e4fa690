import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfumato.data.dataset import CaptionedImages
from sfumato.data.emoji import build
from sfumato.data.emoji.names import emoji_table
from sfumato.data.imagefolder import read_metadata
from sfumato.data.pixels import centre_square, centred_drawing
from sfumato.data.splits import split_of, split_of_file
from sfumato.errors import BadInput
from tests.data import fake

COMMON = {"1f34e": "red-apple", "1f34f": "green-apple", "1f355": "pizza", "1f44d": "thumb", "1f44d-1f3ff": "thumb-d"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """120 faces and a few more in the style noto, some of them in twemoji too."""
    root = tmp_path_factory.mktemp("corpus")
    fake.iconify(root, "noto", fake.many(76) | COMMON | {"1f34b": "white"})
    icons = json.loads((root / "npm/noto/icons.json").read_text())
    icons["icons"]["white"]["body"] = '<rect width="9" height="9" fill="#fff"/>'
    icons["icons"]["pizza"] = icons["icons"]["red-apple"]
    (root / "npm/noto/icons.json").write_text(json.dumps(icons))
    fake.iconify(root, "twemoji", fake.many(20) | COMMON)
    build(root / "out", cache=root, styles=["noto", "twemoji"], size=32, workers=1)
    return root / "out"


def column(data: CaptionedImages, name: str) -> list:
    return data.table[name].to_pylist()


def test_everything_is_decoded_in_the_tables_order(corpus):
    data = CaptionedImages.open(corpus, 16)
    assert len(data) == len(data.captions) == len(data.alternatives) == len(data.table) == 81 + 25 - 1
    assert data.images.shape == (len(data), 3, 16, 16)
    assert data.images.dtype == np.uint8
    i = data.captions.index("red apple, twemoji")
    assert column(data, "file")[i] == "images/twemoji/1f34e.png"
    with Image.open(corpus / "images/twemoji/1f34e.png") as image:
        expected = centred_drawing(image, tuple(column(data, "bbox")[i]), 16)
    assert np.array_equal(data.images[i], expected)


def test_white_on_white_and_copies_are_left_out(corpus):
    assert "lemon, noto" not in CaptionedImages.open(corpus, 16, drop_duplicates=False).captions
    assert "pizza, noto" not in CaptionedImages.open(corpus, 16).captions
    assert "pizza, noto" in CaptionedImages.open(corpus, 16, drop_duplicates=False).captions


def test_choices(corpus):
    assert set(column(CaptionedImages.open(corpus, 16, styles=["twemoji"]), "style")) == {"twemoji"}
    assert "" in set(column(CaptionedImages.open(corpus, 16), "skin_tone"))
    assert set(column(CaptionedImages.open(corpus, 16, tones=False), "skin_tone")) == {""}
    common = CaptionedImages.open(corpus, 16, min_styles=2)
    assert len(set(column(common, "untoned"))) == 24
    assert set(column(CaptionedImages.open(corpus, 16, groups=["food-drink"]), "group")) == {"food-drink"}


def test_splits_part_the_corpus_and_keep_contents_together(corpus):
    whole = CaptionedImages.open(corpus, 16)
    parts = {}
    for split in ("train", "test", "cells"):
        parts[split] = CaptionedImages.open(corpus, 16, split=split)
        rows = zip(column(parts[split], "base"), column(parts[split], "style"), strict=True)
        assert all(split_of(*row) == split for row in rows)
    assert sorted(f for part in parts.values() for f in column(part, "file")) == sorted(column(whole, "file"))
    held_out = set(column(parts["test"], "base"))
    assert held_out
    assert held_out.isdisjoint(column(parts["train"], "base"))
    assert held_out.isdisjoint(column(parts["cells"], "base"))


def test_sampling_is_by_emoji_and_not_by_picture(corpus):
    data = CaptionedImages.open(corpus, 16)
    weights = data.sampling_weights()
    assert weights.sum() == pytest.approx(1)
    by_emoji = defaultdict(list)
    for emoji, weight in zip(column(data, "untoned"), weights, strict=True):
        by_emoji[emoji].append(weight)
    assert [sum(w) for w in by_emoji.values()] == pytest.approx([1 / len(by_emoji)] * len(by_emoji))
    assert all(len(set(w)) == 1 for w in by_emoji.values())
    assert len(by_emoji["1f44d"]) == 4  # two styles, two tones


def test_captions_are_the_name_or_keywords_and_repeat_with_the_generator(corpus):
    data = CaptionedImages.open(corpus, 16)
    i = data.captions.index("red apple, noto")
    draws = [data.caption(i, np.random.default_rng(seed)) for seed in range(1000)]
    assert draws == [data.caption(i, np.random.default_rng(seed)) for seed in range(1000)]
    share = draws.count("red apple, noto") / 1000
    assert 0.75 < share < 0.85
    keywords = set(emoji_table()["1f34e"].keywords)
    for draw in set(draws) - {"red apple, noto"}:
        words, _, style = draw.rpartition(", ")
        assert style == "noto"
        assert set(words.split()) <= {w for keyword in keywords for w in keyword.split()}
    assert len(set(draws)) > 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 4}, "between 8 and 1024"),
        ({"split": "validation"}, "train, test, cells"),
        ({"styles": ["oil"]}, "no style 'oil'; choose from: noto, twemoji"),
        ({"groups": ["paintings"]}, "no group 'paintings'"),
        ({"min_styles": 3}, "between 1 and 2"),
        ({"min_styles": 0}, "between 1 and 2"),
        ({"styles": []}, "No picture"),
    ],
)
def test_bad_choices_are_refused(corpus, options, words):
    with pytest.raises(BadInput, match=words):
        CaptionedImages.open(corpus, **options)


def test_an_unfinished_or_damaged_corpus_is_refused(corpus, tmp_path):
    (tmp_path / "table.parquet").write_bytes((corpus / "table.parquet").read_bytes())
    with pytest.raises(BadInput, match="not complete"):
        CaptionedImages.open(tmp_path)
    (tmp_path / "build.json").write_text("{}")
    with pytest.raises(BadInput, match="cannot be read"):
        CaptionedImages.open(tmp_path)


# ---- any folder of captioned images


@pytest.fixture
def folder(tmp_path) -> Path:
    """40 pictures, each of one colour, with captions."""
    lines = []
    for i in range(40):
        Image.new("RGB", (10 + i, 30), (i, 2 * i, 255 - i)).save(tmp_path / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f" picture {i} ", "other": 1}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def test_imagefolder(folder):
    data = CaptionedImages.open(folder, 8)
    assert data.captions == [f"picture {i}" for i in range(40)]
    assert all((data.images[i] == np.array([i, 2 * i, 255 - i])[:, None, None]).all() for i in range(40))
    assert data.sampling_weights() == pytest.approx(np.full(40, 1 / 40))
    assert data.caption(3, np.random.default_rng(0)) == "picture 3"
    train = CaptionedImages.open(folder, 8, split="train")
    assert column(train, "file") == [f"{i}.png" for i in range(40) if split_of_file(f"{i}.png") == "train"]
    with pytest.raises(BadInput, match="only the emoji corpus"):
        CaptionedImages.open(folder, styles=["noto"])


def test_transparent_and_turned_pictures(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    turned = Image.new("RGB", (30, 10), "blue")
    turned.paste("red", (0, 0, 10, 10))  # after turning upright, red is the top third
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "b.png", exif=exif)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}\n{"file_name": "b.png", "text": "b"}')
    data = CaptionedImages.open(tmp_path, 10)
    assert (data.images[0] == 255).all()
    assert (data.images[1] == np.array([0, 0, 255])[:, None, None]).all()  # the centre third


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"file_name": "0.png"}', "line 2: the key 'text' is missing"),
        ('{"file_name": "0.png", "text": "  "}', "line 2: the key 'text' is missing, empty"),
        ('{"file_name": "0.png", "text": 3}', "line 2: the key 'text' is missing, empty or not text"),
        ('{"text": "a"}', "line 2: the key 'file_name'"),
        ('{"file_name": "nowhere.png", "text": "a"}', "line 2: there is no picture 'nowhere.png'"),
        ('{"file_name": "../0.png", "text": "a"}', "line 2: .*outside the folder"),
        ('{"file_name": "/etc/hostname", "text": "a"}', "line 2: .*outside the folder"),
        ('{"file_name": ".", "text": "a"}', "line 2: there is no picture"),
        ('["0.png", "a"]', "line 2 is not a JSON object"),
        ("0.png a", "line 2 is not JSON"),
    ],
)
def test_bad_metadata_is_one_sentence_with_the_line(folder, line, words):
    (folder / "metadata.jsonl").write_text(f'{{"file_name": "0.png", "text": "fine"}}\n{line}\n')
    with pytest.raises(BadInput, match=words) as caught:
        CaptionedImages.open(folder, 8)
    assert "\n" not in str(caught.value)


def test_empty_undecodable_and_absent_metadata(folder):
    (folder / "metadata.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="is empty"):
        read_metadata(folder)
    (folder / "metadata.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="UTF-8"):
        read_metadata(folder)
    (folder / "0.png").write_bytes(b"no picture")
    (folder / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "fine"}')
    with pytest.raises(BadInput, match=r"0\.png"):
        CaptionedImages.open(folder, 8)
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(BadInput, match="is no dataset"):
        CaptionedImages.open(folder, 8)


# ---- geometry


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(4, 60), st.integers(4, 60), st.sampled_from([32, 64, 128]))
def test_a_drawing_is_scaled_to_seven_eighths_and_centred(left, top, width, height, size):
    image = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (left, top, left + width, top + height))
    out = centred_drawing(image, (left, top, left + width, top + height), size)
    assert out.shape == (3, size, size)
    ys, xs = np.nonzero(out[0] < 128)
    box_width, box_height = xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()
    assert max(box_width, box_height) == size * 112 // 128
    assert abs(box_width / box_height - width / height) <= width / height * 2 / min(box_width, box_height)
    assert abs(xs.min() + xs.max() + 1 - size) <= 1
    assert abs(ys.min() + ys.max() + 1 - size) <= 1
    border = np.concatenate([out[:, 0].ravel(), out[:, -1].ravel(), out[:, :, 0].ravel(), out[:, :, -1].ravel()])
    assert (border == 255).all()


def test_half_transparent_ink_is_shown_on_white():
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 128))
    out = centred_drawing(image, (0, 0, 16, 16), 16)
    assert Counter(out.ravel().tolist()) == {127: 3 * 14 * 14, 255: 3 * (16 * 16 - 14 * 14)}


@pytest.mark.parametrize(("width", "height"), [(30, 10), (10, 30), (10, 10)])
def test_the_centre_square_is_taken(width, height):
    image = Image.new("RGB", (width, height), "blue")
    left, top = (width - 10) // 2, (height - 10) // 2
    image.paste("red", (left, top, left + 10, top + 10))
    assert (centre_square(image, 8) == np.array([255, 0, 0])[:, None, None]).all()
