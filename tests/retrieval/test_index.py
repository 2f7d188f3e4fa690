"""Indexing: added rows, resumed runs, and rejected input."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sfumato.data.pixels import centre_square
from sfumato.errors import BadInput
from sfumato.retrieval.columns import VECTORS
from sfumato.retrieval.database import explained, quoted
from sfumato.retrieval.files import image_files
from sfumato.retrieval.index import ImageIndex
from sfumato.retrieval.indexing import index_files
from sfumato.retrieval.query import Query
from sfumato.retrieval.search import search
from sfumato.style.describers import Describers
from tests.retrieval.conftest import indexed
from tests.style.small import save_both, shapes


def rows_of(index):
    return sorted(index.table.to_arrow().to_pylist(), key=lambda row: row["path"])


def test_every_image_has_its_descriptors(index, describers, images):
    rows = rows_of(index)
    assert [row["path"] for row in rows] == sorted(str(path) for path in images.rglob("*.png"))
    assert {row["folder"] for row in rows} == {"one", "two"}
    for row in rows:
        square = centre_square(Image.open(row["path"]).convert("RGB"), 16)
        for name in ("content", "style"):
            np.testing.assert_allclose(row[VECTORS[name]], describers.images(name, [square])[0], atol=1e-5)


def test_a_second_run_adds_nothing(index, describers, images):
    files = image_files(images)
    *_, state = index_files(ImageIndex.open(index.uri), describers, files)
    assert (state.total, state.unchanged, state.added) == (23, 23, 0)


def test_interrupted_run_resumes(tmp_path, describers, images):
    files = image_files(images)
    begun = ImageIndex.create(str(tmp_path / "index"), describers, files)
    run = index_files(begun, describers, files, batch=8)
    assert next(run).added == 8
    run.close()  # after one batch; nothing else is written
    again, state = indexed(tmp_path / "index", describers, images)
    assert (state.unchanged, state.added, len(again)) == (8, 15, 23)


def test_changed_and_new_files_are_indexed_again(tmp_path, describers):
    paths = shapes(tmp_path / "own", 5)
    index, _ = indexed(tmp_path / "index", describers, tmp_path / "own")
    before = rows_of(index)
    Image.new("RGB", (20, 20), "red").save(paths[0])
    os.utime(paths[0], ns=(1, 1))
    Image.new("RGB", (9, 30), "blue").save(tmp_path / "own" / "new.png")
    index, state = indexed(tmp_path / "index", describers, tmp_path / "own")
    assert (state.unchanged, state.added, state.changed, len(index)) == (4, 2, 1, 6)
    after = {row["path"]: row for row in rows_of(index)}
    assert all((after[row["path"]] == row) == (row["path"] != str(paths[0])) for row in before)


def random_vectors(count):
    draw = np.random.default_rng(0)
    return {name: draw.standard_normal((count, d)).astype(np.float32) for name, d in (("content", 10), ("style", 12))}


def test_rows_are_replaced_in_one_transaction(tmp_path, describers, images):
    index, _ = indexed(tmp_path / "index", describers, images)
    names, before = [row["path"] for row in rows_of(index)][:3], index.table.version
    index.add([{"path": name, "folder": "new"} for name in [*names, "other"]], random_vectors(4))
    assert index.table.version == before + 1
    assert (len(index), index.table.count_rows("folder = 'new'")) == (24, 4)


def test_concurrent_runs_add_each_file_once(tmp_path, describers, images):
    uri, files, begin = str(tmp_path / "index"), image_files(images), Barrier(3)

    def run(_):
        begin.wait()
        index = ImageIndex.create(uri, describers, files)
        for first in range(0, 96, 16):
            index.add([{"path": str(first + n)} for n in range(16)], random_vectors(16))
            index.finish()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, range(3)))
    assert sorted(row["path"] for row in rows_of(ImageIndex.open(uri))) == sorted(map(str, range(96)))


def test_equivalent_paths_of_a_file_are_normalised(tmp_path, describers):
    paths = shapes(tmp_path / "own", 4)
    (tmp_path / "link").symlink_to(tmp_path / "own" / "one")
    files = [*image_files(tmp_path / "own"), *image_files(tmp_path / "own" / "one" / ".." / "." / ".."), paths[0]]
    index = ImageIndex.create(str(tmp_path / "index"), describers, files[:-1])
    *_, state = index_files(index, describers, files[:-1])
    assert (state.total, len(index)) == (4, 4)
    assert image_files(tmp_path / "link" / "..")[0].path == paths[0], "a link is followed before .."
    assert image_files(tmp_path / "link")[0].path == tmp_path / "link" / "000.png", "a link stays otherwise"
    (tmp_path / "own" / "metadata.jsonl").write_text('{"file_name": "two/../one/000.png", "text": "a"}')
    assert image_files(tmp_path / "own")[0].path == paths[0]


def test_changed_metadata_is_detected(tmp_path, describers):
    paths = shapes(tmp_path / "own", 2)

    def written(**second):
        lines = [{"file_name": f"{path.parent.name}/{path.name}", "text": "shape", "style": "flat"} for path in paths]
        (tmp_path / "own" / "metadata.jsonl").write_text("\n".join(map(json.dumps, [lines[0], lines[1] | second])))
        return indexed(tmp_path / "index", describers, tmp_path / "own")

    written()
    index, state = written(style="round", text="circle")
    assert (state.unchanged, state.added, state.changed, len(index)) == (1, 1, 1, 2)
    assert [(row["style"], row["caption"]) for row in rows_of(index)] == [("flat", "shape"), ("round", "circle")]
    with pytest.raises(BadInput, match=r"(000|001)\.png.* has the keys text and caption"):
        written(caption="other")


def test_path_that_is_not_utf8_is_skipped(tmp_path, describers):
    shapes(tmp_path / "own", 2)
    os.rename(tmp_path / "own" / "one" / "000.png", os.fsencode(tmp_path / "own" / "one") + b"/caf\xe9.png")
    index, state = indexed(tmp_path / "index", describers, tmp_path / "own")
    assert (len(index), state.total, state.done) == (1, 2, 2)
    assert state.unreadable == [
        f"{tmp_path}/own/one/caf\\xe9.png: this path is not UTF-8, as an index needs it: rename it."
    ]


def test_infinite_and_null_metadata_values(tmp_path, describers):
    (path, *_) = shapes(tmp_path / "own", 1)
    line = f'{{"file_name": "one/{path.name}", "text": "a", "rating": 1e999, "other": null}}'
    (tmp_path / "own" / "metadata.jsonl").write_text(line)
    index, _ = indexed(tmp_path / "index", describers, tmp_path / "own")
    assert rows_of(index)[0]["rating"] is None
    assert "other" not in index.columns


def test_damaged_index_is_rejected(tmp_path, describers, images):
    index, _ = indexed(tmp_path / "index", describers, images)
    for data in (tmp_path / "index" / "images.lance" / "data").iterdir():
        data.write_bytes(data.read_bytes()[:40])
    damaged = ImageIndex.open(index.uri)
    with pytest.raises(BadInput, match="cannot be used"):
        damaged.known()
    with pytest.raises(BadInput, match="cannot be used: nothing there"), explained("name"):
        raise RuntimeError("nothing there")
    with pytest.raises(BadInput, match=r"^a sentence$"), explained("name"):
        raise BadInput("a sentence")


def test_unreadable_images_are_named_and_counted(tmp_path, describers):
    shapes(tmp_path / "own", 3)
    (tmp_path / "own" / "bad.png").write_bytes(b"not an image")
    (tmp_path / "own" / "cut.png").write_bytes((tmp_path / "own" / "one" / "000.png").read_bytes()[:60])
    index, state = indexed(tmp_path / "index", describers, tmp_path / "own")
    assert (state.total, state.added, len(index), state.done) == (5, 3, 3, 5)
    assert sorted(each.split()[0].rpartition("/")[2] for each in state.unreadable) == ["bad.png", "cut.png"]


def test_keys_of_metadata_are_columns(tmp_path, describers):
    paths = shapes(tmp_path / "own", 2)
    lines = [
        {"file_name": f"{path.parent.name}/{path.name}", "text": f"shape {n}", "year": 1900 + n, "artist": artist}
        | {"style": "flat", "content": "shapes"}
        for n, (path, artist) in enumerate(zip(paths, ["O'Hara", 7], strict=True))
    ]
    (tmp_path / "own" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    index, _ = indexed(tmp_path / "index", describers, tmp_path / "own")
    rows = rows_of(index)
    assert [(row["caption"], row["year"], row["artist"]) for row in rows] == [
        ("shape 0", 1900.0, "O'Hara"),
        ("shape 1", 1901.0, "7"),
    ]
    assert {(row["style"], row["content"]) for row in rows} == {("flat", "shapes")}
    assert index.table.count_rows(f"artist = {quoted(chr(79) + chr(39) + 'Hara')}") == 1
    shapes(tmp_path / "other", 2)
    with pytest.raises(BadInput, match=r"has no column 'folder', which .*/000\.png has"):
        ImageIndex.create(index.uri, describers, image_files(tmp_path / "other"))
    (tmp_path / "own" / "metadata.jsonl").write_text(json.dumps(lines[0] | {"path": "x"}))
    with pytest.raises(BadInput, match="'path' of the images has the name of a column of the index"):
        ImageIndex.create(str(tmp_path / "new"), describers, image_files(tmp_path / "own"))


def write_metadata(place, paths, entries):
    lines = [
        {"file_name": f"{path.parent.name}/{path.name}", "text": "a"} | entry
        for path, entry in zip(paths, entries, strict=True)
    ]
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_metadata_numbers_keep_all_digits(tmp_path, describers):
    """JSON to the index and back: 2^53 + 1 is the first integer that a double cannot represent."""
    place = tmp_path / "own"
    values = {
        "mixed": ["a", 12345678, 0.1234567890123],
        "ints": [2**53 + 1, -3, True],
        "huge": [2**63, 10**90, 5],
        "both": [2**53 + 1, 0.5, 1],
        "plain": [2**53, 0.5, 7],
    }
    entries = [{name: each[n] for name, each in values.items()} for n in range(3)]
    write_metadata(place, shapes(place, 3), entries)
    index, _ = indexed(tmp_path / "index", describers, place)
    found = {row["path"]: row for row in rows_of(index)}
    rows = [found[str(file.path)] for file in image_files(place)]
    expected = {
        "mixed": ["a", "12345678", "0.1234567890123"],
        "ints": [9007199254740993, -3, 1],
        "huge": ["9223372036854775808", "1" + 90 * "0", "5"],
        "both": ["9007199254740993", "0.5", "1"],
        "plain": [9007199254740992.0, 0.5, 7.0],
    }
    assert {name: [row[name] for row in rows] for name in values} == expected
    assert index.table.count_rows("ints = 9007199254740993") == 1
    again, state = indexed(tmp_path / "index", describers, place)
    assert (state.unchanged, len(again)) == (3, 3)


def test_columns_of_a_second_folder_are_stored_in_those_of_the_first(tmp_path, describers):
    """The columns of the second folder alone would have the types double, double, 64-bit integer and double."""
    first = [{"id": 2**53 + 1, "year": 1900, "artist": "x", "note": 0.5}, {"id": 1, "year": 0.5, "artist": "7"}]
    second = [{"id": 7, "year": 3, "artist": 2**53 + 1}, {"artist": 0.25, "note": 1}]
    places = [tmp_path / "one", tmp_path / "two"]
    for place, entries in zip(places, (first, second), strict=True):
        write_metadata(place, shapes(place, 2), entries)
        index, state = indexed(tmp_path / "index", describers, place)
        assert state.added == 2
    found = {row["path"]: row for row in rows_of(index)}
    rows = [found[str(file.path)] for file in image_files(places[1])]
    assert [(row["id"], row["year"], row["artist"], row["note"]) for row in rows] == [
        (7, 3, "9007199254740993", None),
        (None, None, "0.25", 1),
    ]
    before = rows_of(index)
    for entry, sentence in (
        (
            {"id": "n/a"},
            r"The column 'id' of .*index is int64 and cannot hold 'n/a' of .*two/one/000\.png: index these",
        ),
        ({"id": 0.5}, "is int64 and cannot hold 0.5"),
        ({"id": 2**63}, "is int64 and cannot hold 9223372036854775808"),
        ({"year": 2**53 + 1}, "is double and cannot hold 9007199254740993"),
        ({"year": "1900"}, "is double and cannot hold '1900'"),
        ({"new": 1}, "has no column 'new'"),
    ):
        write_metadata(places[1], shapes(places[1], 1), [entry])
        with pytest.raises(BadInput, match=sentence):
            indexed(tmp_path / "index", describers, places[1])
    assert rows_of(ImageIndex.open(index.uri)) == before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("score", "result of the search"),
        ("cosines", "result of the search"),
        ("_distance", "LanceDB uses itself"),
        ("_rowid", "LanceDB uses itself"),
        ("_row_created_at_version", "LanceDB uses itself"),
        ("*", "LanceDB uses itself"),
        ("", "an empty name"),
        ("a.b", "a dot"),
        ("a`b", "a backtick"),
        ("a\0b", "a null character"),
        ("content_vector", "a column of the index"),
    ],
)
def test_invalid_column_names_are_rejected_before_indexing(tmp_path, describers, name, sentence):
    place = tmp_path / "own"
    write_metadata(place, shapes(place, 1), [{name: 1}])
    with pytest.raises(BadInput, match=sentence) as refused:
        ImageIndex.create(str(tmp_path / "index"), describers, image_files(place))
    assert "cargo" not in str(refused.value)
    assert "rename it" in str(refused.value)
    assert not (tmp_path / "index" / "images.lance").exists()


def test_unusual_column_names_are_kept(tmp_path, describers):
    place, entry = tmp_path / "own", {"a b": 1.5, "a'b": 2.5, 'a"b': 3.5, "Path": 4.5, "_id": 5.5, "é": 6.5, "a/b": 7.5}
    write_metadata(place, shapes(place, 1), [entry])
    index, _ = indexed(tmp_path / "index", describers, place)
    (hit,) = search(index, Query.of({"style": np.eye(12, dtype=np.float32)[0]}, {}), 1)
    assert {name: hit.row[name] for name in entry} == entry


def test_descriptors_of_another_model_are_refused(tmp_path, index, images):
    other = Describers.load(*save_both(tmp_path / "other", seed=1))
    with pytest.raises(BadInput, match=r"content descriptors of .* another encoder .*--content-encoder"):
        ImageIndex.create(index.uri, other, image_files(images))


def test_invalid_indices_are_rejected(tmp_path, describers, images):
    with pytest.raises(BadInput, match="There is no index"):
        ImageIndex.open(str(tmp_path / "nowhere"))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file.txt").write_text("text")
    with pytest.raises(BadInput, match="is not an index of images"):
        ImageIndex.open(str(tmp_path / "plain"))
    with pytest.raises(BadInput, match="exists and is not an index"):
        ImageIndex.create(str(tmp_path / "plain"), describers, image_files(images))
    import lancedb  # takes two seconds

    foreign = lancedb.connect(tmp_path / "foreign")
    foreign.create_table("images", pa.table({"path": ["a"]}))
    with pytest.raises(BadInput, match="a table of another program"):
        ImageIndex.open(str(tmp_path / "foreign"))


@pytest.mark.parametrize("prefix", ["", "file://", "file:"])
def test_local_uris_are_checked_as_paths(tmp_path, describers, prefix):
    (tmp_path / "file.txt").write_text("text")
    shapes(tmp_path / "own", 2)
    files, before = image_files(tmp_path / "own"), sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="There is no index"):
        ImageIndex.open(f"{prefix}{tmp_path}/nowhere/deep")
    with pytest.raises(BadInput, match="There is no index"):
        ImageIndex.open(f"{prefix}{tmp_path}/file.txt")
    with pytest.raises(BadInput, match="own exists and is not an index"):
        ImageIndex.create(f"{prefix}{tmp_path}/own", describers, files)
    for name in ("file.txt", "file.txt/index"):
        with pytest.raises(BadInput, match=r"file\.txt is a file, not a folder: name another place"):
            ImageIndex.create(f"{prefix}{tmp_path}/{name}", describers, files)
    assert sorted(tmp_path.rglob("*")) == before
    index, _ = indexed(f"{prefix}{tmp_path}/new/index", describers, tmp_path / "own")
    assert len(ImageIndex.open(index.uri)) == len(ImageIndex.open(f"{tmp_path}/new/index")) == 2


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(BadInput, match="is not a folder"):
        image_files(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="contains no image"):
        image_files(tmp_path)
