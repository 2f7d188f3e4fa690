"""Triplets: comparison with a brute-force search, disjoint databases, bounds, and report."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from sfumato.errors import BadInput
from sfumato.retrieval.files import image_files
from sfumato.retrieval.index import ImageIndex
from sfumato.retrieval.triplet_report import report
from sfumato.retrieval.triplets import NONE, Images, disjoint, find_triplets, nearest_within, read_images
from tests.retrieval.conftest import indexed
from tests.style.small import shapes


def random_images(count, first=0, seed=0, d=6):
    draw = np.random.default_rng(seed)
    vectors = {name: draw.standard_normal((count, d)).astype(np.float32) for name in ("content", "style")}
    vectors = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in vectors.items()}
    labels = {name: [str(each) for each in draw.integers(0, 4, count)] for name in vectors}
    names = [str(n) for n in range(first, first + count)]
    return Images(names, [f"digest {name}" for name in names], vectors, labels)


@pytest.mark.parametrize("k", [1, 3, 1000])
@pytest.mark.parametrize(("by", "bounded"), [("content", "style"), ("style", "content")])
def test_matches_are_the_nearest_of_k_within_the_bound(k, by, bounded):
    outputs = random_images(300)
    database = random_images(40, first=290, seed=1)  # ten images are in both
    found = nearest_within(outputs, database, by, bounded, k, 0.2)
    for x in range(300):
        others = [row for row in range(40) if database.digests[row] != outputs.digests[x]]
        near = sorted(others, key=lambda row: -float(outputs.vectors[by][x] @ database.vectors[by][row]))[:k]
        allowed = [row for row in near if outputs.vectors[bounded][x] @ database.vectors[bounded][row] <= 0.2]
        assert found[x] == (allowed[0] if allowed else NONE), x
    assert (found == NONE).any() == (k < 1000)


def test_content_images_of_the_same_label():
    """The result is that of a search in the images of each label alone; images without label find nothing."""
    outputs, database = random_images(60), random_images(80, seed=2, first=100)
    outputs.labels["content"][:3] = [None, "", "nosuch"]
    database.labels["content"][:2] = [None, ""]
    found = find_triplets(outputs, database, database, k=5, most_content=1, most_style=0.1, same_content=True).y
    assert (found[:3] == NONE).all()
    for label in {"0", "1", "2", "3"}:
        rows = [row for row, each in enumerate(database.labels["content"]) if each == label]
        mine = [row for row, each in enumerate(outputs.labels["content"]) if each == label]
        alone = nearest_within(outputs.take(mine), database.take(rows), "content", "style", 5, 0.1)
        assert [rows[each] if each != NONE else NONE for each in alone] == found[mine].tolist()
    del outputs.labels["content"]
    with pytest.raises(BadInput, match="need a column of the true content"):
        find_triplets(outputs, database, database, same_content=True)


def test_databases_become_disjoint():
    one, other = random_images(60), random_images(60, first=30, seed=1)
    contents, styles = disjoint(one, other)
    assert not set(contents.digests) & set(styles.digests)
    assert set(contents.digests) | set(styles.digests) == set(one.digests) | set(other.digests)
    assert set(one.digests[:30]) <= set(contents.digests)
    assert set(other.digests[30:]) <= set(styles.digests)
    assert min(len(contents), len(styles)) > 35, "common images go to both sides"
    row = contents.paths.index("3")
    np.testing.assert_array_equal(contents.vectors["style"][row], one.vectors["style"][3])
    assert contents.labels["content"][row] == one.labels["content"][3]


def test_table_and_report_match_the_triplets():
    outputs = random_images(50)
    contents, styles = disjoint(random_images(80, seed=2, first=100), random_images(90, seed=3, first=150))
    triplets = find_triplets(outputs, contents, styles, k=5, most_content=-0.4, most_style=-0.4)
    table, figures = triplets.table({"format": "x"}).to_pylist(), report(triplets)
    assert figures["outputs"] == 50
    assert figures["triplets"] == len(table) < 50
    assert figures["without_style"] == (triplets.s == NONE).sum() > 0
    rows = {path: row for row, path in enumerate(styles.paths)}
    chosen = [(x, s) for x, s in enumerate(triplets.s) if s != NONE]
    same = np.mean([outputs.labels["style"][x] == styles.labels["style"][s] for x, s in chosen])
    assert figures["style_of_style_image_same"] == pytest.approx(same)
    chance = np.mean(
        [np.mean([label == outputs.labels["style"][x] for label in styles.labels["style"]]) for x, _ in chosen]
    )
    assert figures["style_of_style_image_random_same"] == pytest.approx(chance)
    cosine = np.mean([outputs.vectors["content"][x] @ styles.vectors["content"][s] for x, s in chosen])
    assert figures["content_of_style_image_cosine"] == pytest.approx(cosine, rel=1e-5)
    for row in table:
        x, s = outputs.paths.index(row["output"]), rows[row["style"]]
        assert row["content_of_style"] <= -0.4
        assert row["style_of_content"] <= -0.4
        np.testing.assert_array_equal(row["a_s"], styles.vectors["style"][s])
        np.testing.assert_array_equal(row["c_y"], contents.vectors["content"][contents.paths.index(row["content"])])
        assert row["style_of_style"] == pytest.approx(float(outputs.vectors["style"][x] @ styles.vectors["style"][s]))


def test_missing_labels_are_excluded_from_the_report():
    """The report equals that of the images with labels."""
    outputs, database = random_images(60), random_images(80, seed=2, first=100)
    triplets = find_triplets(outputs, database, database, k=80, most_content=1, most_style=1)
    unknown = [None if n % 3 == 0 else label for n, label in enumerate(database.labels["style"])]
    mine = [None if n % 4 == 0 else label for n, label in enumerate(outputs.labels["style"])]
    database.labels["style"][:], outputs.labels["style"][:] = unknown, mine
    found = report(triplets)
    pairs = [(mine[x], unknown[s]) for x, s in enumerate(triplets.s) if mine[x] and unknown[s]]
    labels = [label for label in unknown if label]
    assert found["style_of_style_image_same"] == pytest.approx(np.mean([one == other for one, other in pairs]))
    chance = np.mean([labels.count(one) / len(labels) for one, _ in pairs])
    assert found["style_of_style_image_random_same"] == pytest.approx(chance)
    database.labels["style"][:] = [None] * 80
    assert "style_of_style_image_same" not in report(triplets)


def test_numbers_out_of_range_are_refused():
    images = random_images(3)
    for options in ({"k": 0}, {"most_style": 2.0}, {"most_content": float("nan")}):
        with pytest.raises(BadInput, match="Triplets need"):
            find_triplets(images, images, images, **options)


def test_rows_of_an_index_are_read_in_order(index):
    found = read_images(index, "folder = 'one'", {"style": "folder", "content": "nosuch"})
    assert found.paths == sorted(found.paths)
    assert set(found.labels) == {"style"}
    assert set(found.labels["style"]) == {"one"}
    assert found.vectors["content"].shape == (12, 10)
    index.add([{"path": "no label"}], {name: found.vectors[name][:1] for name in ("content", "style")})
    try:
        assert set(read_images(index, "", {"style": "folder"}).labels["style"]) == {"one", "two", None}
    finally:
        index.table.delete("path = 'no label'")
    with pytest.raises(BadInput, match=r"^The condition \"nosuch = 1\" cannot be evaluated"):
        read_images(index, "nosuch = 1")
    with pytest.raises(BadInput, match="satisfies the condition"):
        read_images(index, "folder = 'three'")


def test_empty_index_is_refused(tmp_path, describers, images):
    empty = ImageIndex.create(str(tmp_path / "index"), describers, image_files(images))
    for where in ("", "folder = 'one'"):
        with pytest.raises(BadInput, match=r"^The index .*index is empty: run `sfumato index` on a folder of images"):
            read_images(empty, where)


def test_integers_are_equal_labels_in_columns_of_all_types(tmp_path, describers):
    """The column is double, 64-bit integer or text."""
    found = []
    for name, other in (("double", 0.5), ("integer", 2**53 + 1), ("text", "x")):
        place = tmp_path / name
        lines = [{"file_name": str(path.relative_to(place)), "label": 7} for path in shapes(place, 2)]
        lines[1]["label"] = other
        (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
        index, _ = indexed(tmp_path / f"{name}.index", describers, place)
        found.append(read_images(index, "", {"content": "label"}).labels["content"])
    assert found == [["7", "0.5"], ["7", "9007199254740993"], ["7", "x"]]


def test_columns_of_labels_are_those_of_x_and_of_one_database(sfumato, index, describers, tmp_path):
    """The content database has the column `kind` only, that of the shapes neither `kind` nor `look`."""
    for name, columns in (("own", {"kind": "a", "look": "b"}), ("contents", {"kind": "a"})):
        place = tmp_path / name
        lines = [{"file_name": str(path.relative_to(place))} | columns for path in shapes(place, 4)]
        (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
        indexed(tmp_path / f"{name}.index", describers, place)
    words = ["triplets", "own.index", "-o", "t.parquet", "--most-style", "1", "--most-content", "1", "--json"]
    contents, neither = ["--content-index", "contents.index"], ["--style-index", index.uri]
    for more in (
        [*contents, *neither, "--content-column", "kind", "--same-content"],
        [*contents, "--style-column", "look"],
    ):
        run = sfumato(*words, *more)
        assert run.code == 0, run.err
    for more, sentence in (
        ([*contents, "--content-column", "look"], "contents.index has no column 'look' of the true content"),
        ([*neither, "--style-column", "look"], "has no column 'look' of the true style: name one of folder"),
    ):
        assert sentence in sfumato(*words, *more).refused()


def test_message_without_triplets_contains_the_counts(sfumato, describers, tmp_path):
    for name, size in (("own", 20), ("contents", 24)):
        place = tmp_path / name
        lines = [{"file_name": str(path.relative_to(place)), "kind": name} for path in shapes(place, 3, size)]
        (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
        indexed(tmp_path / f"{name}.index", describers, place)
    words = ["triplets", "own.index", "-o", "t.parquet", "--most-style", "1", "--most-content", "1"]
    labelled = ["--content-index", "contents.index", "--content-column", "kind", "--same-content"]
    assert (
        "of 3 images x, 3 have no content image in the database of 3, and 0 no style image in that of 3; give larger "
        "databases, a larger -k, --most-style or --most-content, and with --same-content labels that x and"
    ) in sfumato(*words, *labelled).refused()
    only = ["--where-content", "path LIKE '%000.png'", "--where-style", "path LIKE '%000.png'"]
    found = r"of 3 images x, \d have no content image in the database of (\d), and \d no style image in that of (\d);"
    sizes = re.search(found, sfumato(*words, *only).refused()).groups()
    assert sorted(sizes) == ["0", "1"]


def test_the_command_writes_a_table(sfumato, index, tmp_path):
    words = ["triplets", index.uri, "-o", tmp_path / "t.parquet", "--most-style", "1", "--most-content", "1"]
    found = sfumato(*words, "--style-column", "folder", "--json")
    assert found.code == 0, found.err
    table = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert found.json["triplets"] == len(table) == 23
    assert found.json["contents"] + found.json["styles"] == 23
    assert not {row["content"] for row in table} & {row["style"] for row in table}
    assert all(row["output"] not in (row["content"], row["style"]) for row in table)
    assert 0 < found.json["style_of_style_image_random_same"] < 1
    none = sfumato(*words[:-4], "--most-style", "-1", "--most-content", "1", "-k", "1").err
    counts = re.search(r"of 23 images x, 23 have no content image in the database of (\d+), and \d+ no style", none)
    assert f"image in that of {23 - int(counts[1])}; give larger databases" in none
    assert "--same-content" not in none
    assert (
        "has no column 'stlye' of the true style: name one of folder" in sfumato(*words, "--style-column", "stlye").err
    )
    alike = sfumato(*words, "--same-content", "--content-column", "folder", "--json").json
    assert alike["content_of_content_image_same"] == 1
    assert "need a column of the true content" in sfumato(*words, "--same-content").err
    assert "has no column 'path' of the true content" in sfumato(*words, "--content-column", "path").err
    assert "style_of_style_image_same" not in sfumato(*words, "--json").json, "the default columns may be missing"
    assert "a .parquet file" in sfumato("triplets", index.uri, "-o", "t.csv").refused()
