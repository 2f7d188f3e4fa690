import json
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfumato.data.corpus import COLUMNS
from sfumato.data.dataset import CaptionedImages
from sfumato.data.emoji import build
from sfumato.data.emoji.names import emoji_table
from sfumato.data.emoji.table import SCHEMA
from sfumato.data.imagefolder import read_metadata
from sfumato.data.pixels import centre_square, centred_drawing
from sfumato.data.splits import split_of, split_of_file
from sfumato.errors import BadInput
from tests.data import fake

COMMON = {"1f34e": "red-apple", "1f34f": "green-apple", "1f355": "pizza", "1f44d": "thumb", "1f44d-1f3ff": "thumb-d"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """76 faces and a few more emoji in the style noto, some of them also in twemoji."""
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


def test_images_and_captions_have_the_order_of_the_table(corpus):
    data = CaptionedImages.open(corpus, 16)
    assert len(data) == len(data.captions) == len(data.alternatives) == len(data.table) == 81 + 25 - 1
    assert data.images.shape == (len(data), 3, 16, 16)
    assert data.images.dtype == np.uint8
    i = data.captions.index("red apple, twemoji")
    assert column(data, "file")[i] == "images/twemoji/1f34e.png"
    with Image.open(corpus / "images/twemoji/1f34e.png") as image:
        expected = centred_drawing(image, tuple(column(data, "bbox")[i]), 16)
    assert np.array_equal(data.images[i], expected)


def test_count_selects_a_fixed_random_subset(corpus):
    whole, some = CaptionedImages.open(corpus, 16), CaptionedImages.open(corpus, 16, count=9)
    rows = [column(whole, "file").index(file) for file in column(some, "file")]
    assert len(set(rows)) == 9
    assert rows != sorted(rows)
    assert np.array_equal(some.images, whole.images[rows])
    assert column(CaptionedImages.open(corpus, 16, count=5), "file") == column(some, "file")[:5]
    assert len(CaptionedImages.open(corpus, 16, count=10_000)) == len(whole)


def test_invisible_and_duplicate_images_are_excluded(corpus):
    assert "lemon, noto" not in CaptionedImages.open(corpus, 16, drop_duplicates=False).captions
    assert "pizza, noto" not in CaptionedImages.open(corpus, 16).captions
    assert "pizza, noto" in CaptionedImages.open(corpus, 16, drop_duplicates=False).captions


def test_image_is_kept_if_its_original_is_not_selected(corpus):
    """The pizza of the style noto is a copy of its red apple."""
    assert CaptionedImages.open(corpus, 16, styles=["noto"], names=["pizza"]).captions == ["pizza, noto"]
    both = CaptionedImages.open(corpus, 16, styles=["noto"], names=["pizza", "red apple"])
    assert both.captions == ["red apple, noto"]


def test_equal_images_are_in_one_split(corpus, monkeypatch):
    """Also if their base emoji are in different splits: the split is that of the first one in the corpus."""
    monkeypatch.setattr("sfumato.data.dataset.split_of", lambda base, style: "test" if base == "1f355" else "train")
    assert CaptionedImages.open(corpus, 16, names=["pizza"], split="test").captions == ["pizza, twemoji"]
    whole = CaptionedImages.open(corpus, 16, drop_duplicates=False, split="train")
    assert "pizza, noto" in whole.captions
    assert CaptionedImages.open(corpus, 16, names=["pizza"], split="train").captions == ["pizza, noto"]


def test_selection_by_style_tone_group_and_name(corpus):
    assert set(column(CaptionedImages.open(corpus, 16, styles=["twemoji"]), "style")) == {"twemoji"}
    assert "" in set(column(CaptionedImages.open(corpus, 16), "skin_tone"))
    assert set(column(CaptionedImages.open(corpus, 16, tones=False), "skin_tone")) == {""}
    common = CaptionedImages.open(corpus, 16, min_styles=2)
    assert len(set(column(common, "untoned"))) == 24
    assert set(column(CaptionedImages.open(corpus, 16, groups=["food-drink"]), "group")) == {"food-drink"}
    named = CaptionedImages.open(corpus, 16, names=["red apple", "thumbs up"])
    assert set(column(named, "untoned")) == {"1f34e", "1f44d"}
    assert sorted(column(named, "skin_tone")) == ["", "", "", "", "dark", "dark"]
    assert len(CaptionedImages.open(corpus, 16, names=["red apple", "thumbs up"], tones=False)) == 4


def test_splits_partition_the_corpus_by_content(corpus):
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


def test_sampling_weights_are_equal_per_emoji(corpus):
    data = CaptionedImages.open(corpus, 16)
    weights = data.sampling_weights()
    assert weights.sum() == pytest.approx(1)
    by_emoji = defaultdict(list)
    for emoji, weight in zip(column(data, "untoned"), weights, strict=True):
        by_emoji[emoji].append(weight)
    assert [sum(w) for w in by_emoji.values()] == pytest.approx([1 / len(by_emoji)] * len(by_emoji))
    assert all(len(set(w)) == 1 for w in by_emoji.values())
    assert len(by_emoji["1f44d"]) == 4  # two styles, two tones


def test_captions_are_names_or_keywords_and_reproducible(corpus):
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
        ({"styles": ["oil"]}, "no style 'oil'; choose from noto, twemoji"),
        ({"groups": ["paintings"]}, "no group 'paintings'"),
        ({"names": ["red aple"]}, r"no name 'red aple'; did you mean 'red apple'\?"),
        ({"names": ["lemon"]}, "no name 'lemon'"),
        ({"count": 0}, "count must be 1 or more"),
        ({"min_styles": 3}, "between 1 and 2"),
        ({"min_styles": 0}, "between 1 and 2"),
        ({"styles": []}, "contains no image"),
    ],
)
def test_invalid_selections_are_rejected(corpus, options, words):
    with pytest.raises(BadInput, match=words):
        CaptionedImages.open(corpus, **options)


@pytest.fixture
def copy(corpus, tmp_path) -> Path:
    """A copy of the corpus, for tests that damage it."""
    shutil.copytree(corpus, tmp_path / "copy")
    return tmp_path / "copy"


def refusal(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        CaptionedImages.open(folder, 16)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(folder: Path, change) -> None:
    rows = pq.read_table(folder / "table.parquet").to_pylist()
    for row in rows:
        change(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "table.parquet")


def test_an_unfinished_corpus_is_refused(copy):
    (copy / "build.json").unlink()
    assert "not complete" in refusal(copy)


def test_missing_or_damaged_image_is_rejected(copy):
    file = column(CaptionedImages.open(copy, 16), "file")[5]
    (copy / file).write_bytes((copy / file).read_bytes()[:60])
    assert re.search(f"{file} cannot be read: run `sfumato data emoji` again", refusal(copy))
    (copy / file).unlink()
    assert f"there is no image '{file}'" in refusal(copy)
    (copy / file).mkdir()
    assert f"there is no image '{file}'" in refusal(copy)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table", None])
def test_a_broken_table_is_refused(copy, content):
    path = copy / "table.parquet"
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    assert re.search(r"table\.parquet cannot be read \(.+\): run `sfumato data emoji` again", refusal(copy))


def test_required_columns_are_those_of_the_corpus(copy):
    assert all(SCHEMA.field(name).type == kind for name, kind in COLUMNS.items())
    table = pq.read_table(copy / "table.parquet")
    pq.write_table(table.drop_columns(["untoned"]), copy / "table.parquet")
    assert "has no column untoned of type string" in refusal(copy)
    pq.write_table(table.set_column(0, "file", pa.array(range(len(table)))), copy / "table.parquet")
    assert "has no column file of type string" in refusal(copy)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("base", None, "rows without base"),
        ("bbox", [3, 3, 3, 9], r"the bounding box \[3, 3, 3, 9\]"),
        ("bbox", [0, 0, 9], "the bounding box"),
        ("bbox", [-1, 0, 9, 9], "the bounding box"),
        ("bbox", [0, 0, 900, 900], "cannot be read"),
        ("file", "/etc/hostname", "'/etc/hostname' lies outside the folder"),
        ("file", "../secret.png", "'../secret.png' lies outside the folder"),
        ("file", "images/link/1f34e.png", "lies outside the folder"),
        ("file", "images/\0", "lies outside the folder"),
        ("file", "images/nowhere.png", "there is no image 'images/nowhere.png'"),
        ("file", ".", "there is no image '.'"),
    ],
)
def test_invalid_rows_are_rejected(copy, name, value, words):
    (copy.parent / "secret.png").write_bytes((copy / "images/noto/1f34e.png").read_bytes())
    (copy.parent / "1f34e.png").write_bytes((copy / "images/noto/1f34e.png").read_bytes())
    (copy / "images/link").symlink_to(copy.parent)
    rewrite(copy, lambda row: row.update({name: value}) if row["name"] == "red apple" else None)
    assert re.search(words, refusal(copy))


# ---- any folder of captioned images


@pytest.fixture
def folder(tmp_path) -> Path:
    """40 images, each of one colour, with captions."""
    lines = []
    for i in range(40):
        Image.new("RGB", (10 + i, 30), (i, 2 * i, 255 - i)).save(tmp_path / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f" image {i} ", "other": 1}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def test_imagefolder_dataset(folder):
    data = CaptionedImages.open(folder, 8)
    assert data.captions == [f"image {i}" for i in range(40)]
    assert all((data.images[i] == np.array([i, 2 * i, 255 - i])[:, None, None]).all() for i in range(40))
    assert data.sampling_weights() == pytest.approx(np.full(40, 1 / 40))
    assert data.caption(3, np.random.default_rng(0)) == "image 3"
    train = CaptionedImages.open(folder, 8, split="train")
    assert column(train, "file") == [f"{i}.png" for i in range(40) if split_of_file(f"{i}.png") == "train"]
    with pytest.raises(BadInput, match="only the emoji corpus"):
        CaptionedImages.open(folder, styles=["noto"])


def test_captions_may_contain_unicode_line_separators(folder):
    text = "one\u2028two\x85three"
    entry = json.dumps({"file_name": "0.png", "text": text}, ensure_ascii=False)
    (folder / "metadata.jsonl").write_bytes(f"{entry}\r\n{entry}".encode())
    assert CaptionedImages.open(folder, 8).captions == [text, text]


def test_transparent_and_rotated_images(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    turned = Image.new("RGB", (30, 10), "blue")
    turned.paste("red", (0, 0, 10, 10))  # after the orientation is applied, red is the top third
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
        ('{"file_name": "../0.png", "text": "a"}', "line 2: .*outside the folder"),
        ('{"file_name": "/etc/hostname", "text": "a"}', "line 2: .*outside the folder"),
        ('{"file_name": "\\u0000", "text": "a"}', "line 2: .*outside the folder"),
        ('{"file_name": "\\ud800", "text": "a"}', "line 2: the key 'file_name' is missing, empty or not text"),
        ('{"file_name": "0.png", "text": "a\\ud800"}', "line 2: the key 'text' is missing, empty or not text"),
        ('["0.png", "a"]', "line 2 is not a JSON object"),
        ("0.png a", "line 2 is not JSON"),
    ],
)
def test_invalid_metadata_error_names_the_line(folder, line, words):
    (folder / "metadata.jsonl").write_text(f'{{"file_name": "0.png", "text": "fine"}}\n{line}\n')
    with pytest.raises(BadInput, match=words) as caught:
        CaptionedImages.open(folder, 8)
    assert "\n" not in str(caught.value)


def test_unreadable_images_are_left_out_with_their_captions(folder):
    whole = CaptionedImages.open(folder, 8)
    (folder / "3.png").write_bytes(b"no image")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:60])
    (folder / "39.png").unlink()
    data = CaptionedImages.open(folder, 8)
    kept = [i for i in range(40) if i not in (3, 5, 39)]
    assert column(data, "file") == [f"{i}.png" for i in kept]
    assert data.captions == [f"image {i}" for i in kept]
    assert len(data.alternatives) == len(data.sampling_weights()) == len(kept)
    assert np.array_equal(data.images, whole.images[kept])
    assert [re.findall(r"\d+\.png", sentence) for sentence in data.unreadable] == [["3.png"], ["5.png"], ["39.png"]]
    assert not whole.unreadable


def test_only_unreadable_images_of_the_selection_are_reported(folder):
    splits = [split_of_file(f"{i}.png") for i in range(40)]
    (folder / f"{splits.index('test')}.png").unlink()
    train = CaptionedImages.open(folder, 8, split="train")
    assert len(train) == splits.count("train")
    assert not train.unreadable
    chosen = column(CaptionedImages.open(folder, 8, count=9), "file")
    (folder / chosen[4]).write_bytes(b"no image")
    fewer = CaptionedImages.open(folder, 8, count=9)
    assert column(fewer, "file") == chosen[:4] + chosen[5:]
    assert len(fewer.unreadable) == 1


def test_folder_without_readable_images_is_refused(folder):
    for i in range(40):
        (folder / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"none of the 40 images of .* can be read; the first: .*0\.png is text"):
        CaptionedImages.open(folder, 8)


def test_empty_undecodable_and_missing_metadata(folder):
    (folder / "metadata.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="is empty"):
        read_metadata(folder)
    (folder / "metadata.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="UTF-8"):
        read_metadata(folder)
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(BadInput, match="is not a dataset"):
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


def test_half_transparent_drawing_is_composited_on_white():
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 128))
    out = centred_drawing(image, (0, 0, 16, 16), 16)
    assert Counter(out.ravel().tolist()) == {127: 3 * 14 * 14, 255: 3 * (16 * 16 - 14 * 14)}


@pytest.mark.parametrize(("width", "height"), [(30, 10), (10, 30), (10, 10)])
def test_centre_square_is_cropped(width, height):
    image = Image.new("RGB", (width, height), "blue")
    left, top = (width - 10) // 2, (height - 10) // 2
    image.paste("red", (left, top, left + 10, top + 10))
    assert (centre_square(image, 8) == np.array([255, 0, 0])[:, None, None]).all()
