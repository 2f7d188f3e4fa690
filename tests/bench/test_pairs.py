"""The paired-edit benchmark: its fixed list, the layout of its images and the region that changes."""

import hashlib
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sfumato.bench import pairs
from sfumato.bench.evaluating import evaluate
from sfumato.bench.pairs import KINDS, Pair, PairBenchmark, read_list, write_list
from sfumato.bench.region import THRESHOLD, changed_region
from sfumato.bench.select import PER_GROUP, QUOTAS, STYLES, select, select_from
from sfumato.data.splits import split_of
from sfumato.errors import BadInput
from tests.bench import small

TEXT = pa.string()
SCHEMA = pa.schema({"file": TEXT, "style": TEXT, "name": TEXT, "bbox": pa.list_(pa.int32())})

CORPUS = Path("data/emoji")
needs_corpus = pytest.mark.skipif(not (CORPUS / "table.parquet").is_file(), reason="the corpus has not been built")


def row(emoji, style, **attributes):
    values = dict.fromkeys(("skin_tone", "gender", "hair", "colour"), "")
    values |= dict.fromkeys(("tone_key", "gender_key", "hair_key", "colour_key"), "")
    values |= {"duplicate_of": "", "variant": 0, "visible": 0.5, "base": emoji, "name": emoji}
    return {"file": f"images/{style}/{emoji}.png", "style": style, "codepoints": emoji} | values | attributes


def hands(count):
    """Rows of `count` emoji, each in all styles and three skin tones."""
    return [
        row(f"{n:x}-{tone}", style, base=f"{n:x}", tone_key=f"{n:x}", skin_tone=tone)
        for n in range(count)
        for style in STYLES
        for tone in ("", "light", "dark")
    ]


def test_list_has_its_quotas_and_300_held_out_pairs():
    found = read_list()
    assert Counter(pair.kind for pair in found) == QUOTAS
    assert tuple(QUOTAS) == KINDS
    held_out = [pair for pair in found if pair.split in ("test", "cells")]
    assert len(held_out) >= 300
    assert {pair.kind for pair in found if pair.split == "train"} == {"hair", "colour"}
    assert len({pair.name for pair in found}) == len(found)
    assert len({(pair.source, pair.target) for pair in found}) == len(found)


def test_list_is_the_published_one():
    """A changed list is another benchmark: update this hash and repeat all measurements."""
    text = "\n".join(f"{pair.kind},{pair.split},{pair.source},{pair.target}" for pair in read_list())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "55ec93f34634bf2d"


@needs_corpus
@pytest.mark.timeout(600)
def test_selection_from_the_corpus_gives_the_list():
    assert select_from(CORPUS) == read_list()


def test_written_list_is_read_back_unchanged(tmp_path, monkeypatch):
    written = read_list()[:7]
    write_list(written, tmp_path / "pairs.csv")
    monkeypatch.setattr(pairs, "_list_text", (tmp_path / "pairs.csv").read_text)
    assert read_list() == written


def test_selection_does_not_depend_on_row_order():
    rows = hands(60)
    expected = select(rows, lambda a, b: True)
    assert {pair.kind for pair in expected} == {"tone", "style"}
    for seed in (0, 1):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert select(shuffled, lambda a, b: True) == expected
    for pair in expected:
        source, target = (next(r for r in rows if r["file"] == file) for file in (pair.source, pair.target))
        assert pair.split == split_of(target["base"], target["style"])
        differ = [column for column in ("style", "skin_tone") if source[column] != target[column]]
        assert differ == (["style"] if pair.kind == "style" else ["skin_tone"])
        assert source["base"] == target["base"]


def test_held_out_pairs_come_first_and_groups_are_limited():
    expected = select(hands(60), lambda a, b: True)
    tones = [pair for pair in expected if pair.kind == "tone"]
    groups = Counter(pair.source.rpartition("-")[0] for pair in tones)
    assert max(groups.values()) <= PER_GROUP
    where = [pair.split == "train" for pair in tones]
    assert where == sorted(where)
    assert all(pair.split != "train" for pair in expected if pair.kind == "style")


def test_unsuitable_rows_are_left_out():
    rows = hands(40)
    hidden = rows[0] | {"file": "images/noto/hidden.png", "visible": 0}
    same = rows[1] | {"file": "images/noto/same.png", "duplicate_of": "images/noto/0.png"}
    second = rows[1] | {"file": "images/noto/second.png", "variant": 1}
    mono = rows[1] | {"file": "images/fluent-mono/0.png", "style": "fluent-mono"}
    couple = rows[1] | {"file": "images/noto/couple.png", "skin_tone": "dark+light"}
    plain = select(rows, lambda a, b: True)
    assert select([*rows, hidden, same, second, mono], lambda a, b: True) == plain
    chosen = select([*rows, couple], lambda a, b: True)
    assert not [pair for pair in chosen if pair.kind == "tone" and "couple" in pair.source + pair.target]
    assert select(rows, lambda a, b: False) == []


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([(9, 9), (32, 20), (64, 64)]))
def test_region_is_the_dilated_set_of_changed_pixels(seed, shape):
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    target = source.copy()
    target[rng.random((*shape, 3)) < 0.01] ^= np.uint8(200)
    radius = round(min(shape) / 32)
    expected = np.zeros(shape, bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            if max(abs(int(source[y, x, c]) - int(target[y, x, c])) for c in range(3)) > THRESHOLD:
                expected[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = True
    assert np.array_equal(changed_region(source, target), expected)
    assert not changed_region(source, source).any()


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Two variants of a drawing, the second with an addition on top, and the first one in another style."""
    drawings = {}
    for name, style, extra in (("plain", "noto", False), ("hat", "noto", True), ("plain", "twemoji", False)):
        image = Image.new("RGBA", (128, 128))
        draw = ImageDraw.Draw(image)
        draw.rectangle((40, 50, 79, 109) if style == "noto" else (10, 20, 69, 109), "red")
        if extra:
            draw.rectangle((50, 10, 69, 49), "blue")
        path = tmp_path / f"images/{style}/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        drawings[path.relative_to(tmp_path).as_posix()] = image.getbbox()
    rows = [
        {"file": file, "style": file.split("/")[1], "name": Path(file).stem, "bbox": list(box)}
        for file, box in drawings.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "table.parquet")
    files = list(drawings)
    fixed = [Pair("hair", "test", files[0], files[1]), Pair("style", "cells", files[0], files[2])]
    monkeypatch.setattr(pairs, "read_list", lambda: fixed)
    return tmp_path


def test_variants_of_one_drawing_share_a_bounding_box(corpus):
    benchmark = PairBenchmark(corpus, 64)
    item = benchmark.items[0]
    assert (item.kind, item.split) == ("hair", "test")
    assert (item.source_text, item.target_text) == ("plain, noto", "hat, noto")
    found = item.load()
    assert found.source.shape == found.target.shape == (64, 64, 3)
    same = (found.source == found.target).all(2)
    assert not same[10:18, 30:34].any()
    assert same[32:].all()
    assert found.mask[10:18, 30:34].all()
    assert not found.mask[40:].any()
    red = (found.source == (255, 0, 0)).all(2)
    assert red[40:50, 28:36].all()


def test_drawings_in_two_styles_have_the_training_size(corpus):
    found = PairBenchmark(corpus, 64).items[1].load()
    for pixels in (found.source, found.target):
        rows = np.flatnonzero((pixels != 255).any((1, 2)))
        assert rows[-1] - rows[0] + 1 == 56


def test_missing_images_are_reported(corpus, tmp_path):
    with pytest.raises(BadInput, match="sfumato data emoji"):
        PairBenchmark(tmp_path / "nowhere", 64)
    item = PairBenchmark(corpus, 32).items[0]
    (corpus / "images/noto/hat.png").unlink()
    with pytest.raises(BadInput, match=r"hat\.png"):
        item.load()
    pq.write_table(pq.read_table(corpus / "table.parquet").slice(0, 2), corpus / "table.parquet")
    with pytest.raises(BadInput, match="lacks 1 images"):
        PairBenchmark(corpus, 32)


def test_changed_image_box_or_name_changes_the_stamp(corpus):
    def stamps():
        return [item.stamp for item in PairBenchmark(corpus, 32).items]

    def changed(**columns):
        rows = pq.read_table(corpus / "table.parquet").to_pylist()
        table = pa.Table.from_pylist([*rows[:2], rows[2] | columns], schema=SCHEMA)
        pq.write_table(table, corpus / "table.parquet")

    found = [stamps()]
    Image.new("RGBA", (128, 128), "green").save(corpus / "images/twemoji/plain.png")
    found.append(stamps())
    changed(bbox=[1, 2, 30, 40])
    found.append(stamps())
    changed(name="other")
    found.append(stamps())
    first, second = zip(*found, strict=True)
    assert len(set(first)) == 1
    assert len(set(second)) == 4


def test_scores_use_the_true_target_and_region(corpus, tmp_path_factory):
    benchmark = PairBenchmark(corpus, small.SIDE)
    item = benchmark.items[0]
    found = item.load()
    evaluator = small.evaluator(tmp_path_factory.mktemp("clip"))
    perfect = evaluate(evaluator, benchmark.metrics, [item], [found], [found.target])
    assert perfect.keys() == benchmark.metrics.keys()
    assert perfect["target_mse"] == [0]
    lazy = evaluate(evaluator, benchmark.metrics, [item], [found], [found.source])
    assert lazy["outside_mse"] == [0]
    assert lazy["mse"] == [0]
    assert lazy["target_mse"][0] == pytest.approx(perfect["mse"][0])
    assert lazy["clip_direction"] == [0]
