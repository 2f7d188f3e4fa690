"""Images of the emoji corpus in an index: preprocessed as in training, with the columns of the corpus table."""

import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.data.dataset import CaptionedImages
from sfumato.data.splits import split_of
from sfumato.errors import BadInput
from sfumato.images.read import FORMATS, SUFFIXES_OF
from sfumato.retrieval.files import image_files
from sfumato.train.contrast import Labels
from tests.data.test_dataset import corpus  # noqa: F401
from tests.retrieval.conftest import indexed
from tests.style.small import shapes
from tests.tiny import tiny_image


def test_drawings_are_scaled_as_in_training(corpus):  # noqa: F811
    files = image_files(corpus)
    data = CaptionedImages.open(corpus, size=16, drop_duplicates=False)
    rows = data.table.to_pylist()
    assert [str(file.path) for file in files] == [str(corpus / row["file"]) for row in rows]
    for number in (0, 7, len(files) - 1):
        small, large = files[number].squares([16, 24])
        np.testing.assert_array_equal(small, data.images[number])
        assert large.shape == (3, 24, 24)
    for file, row, caption in zip(files, rows, data.captions, strict=True):
        assert file.columns["caption"] == caption
        assert file.columns["split"] == split_of(row["base"], row["style"])
        assert file.columns["duplicate"] == ("true" if row["duplicate_of"] else "false")
        assert (file.columns["untoned"], file.columns["style"]) == (row["untoned"], row["style"])


def test_labels_are_those_of_the_table(corpus):  # noqa: F811
    data = CaptionedImages.open(corpus, size=16)
    labels = Labels.of(data)
    for name, column in (("content", "untoned"), ("style", "style")):
        values, numbers = data.table[column].to_pylist(), getattr(labels, name).tolist()
        assert len(set(zip(values, numbers, strict=True))) == len(set(values)) == len(set(numbers))


def test_an_index_has_the_columns_of_the_corpus(corpus, tmp_path, describers):  # noqa: F811
    index, _ = indexed(tmp_path / "index", describers, corpus)
    found = {row["path"]: row for row in index.table.search().select(index.columns).to_list()}
    for file in image_files(corpus):
        assert {name: found[str(file.path)][name] for name in file.columns} == dict(file.columns)


def test_damaged_drawing_is_named_and_left_out(corpus, tmp_path, describers):  # noqa: F811
    damaged = image_files(corpus)[1].path
    damaged.write_bytes(damaged.read_bytes()[:-40])
    index, report = indexed(tmp_path / "index", describers, corpus)
    (sentence,) = report.unreadable
    assert str(damaged) in sentence
    assert "truncated or damaged" in sentence
    assert len(index) == len(image_files(corpus)) - 1


def test_lone_surrogates_of_metadata_are_replaced(tmp_path):
    tiny_image(20, 20).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a", "artist": "x\\ud800", "y\\ud800": 1}')
    (file,) = image_files(tmp_path)
    assert dict(file.columns) == {"caption": "a", "artist": "x?", "y?": 1}


def test_all_supported_formats_are_found(tmp_path):
    """The extensions are those that Pillow and pillow-heif register for the formats."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    Image.init()
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")}
    assert known == {suffix for each in SUFFIXES_OF.values() for suffix in each}
    assert tuple(SUFFIXES_OF) == FORMATS
    for number, suffix in enumerate(sorted(known)):
        name = Image.registered_extensions()[suffix]
        content = io.BytesIO()
        tiny_image(20, 20, seed=number).save(content, "JPEG" if name == "MPO" else name)
        (tmp_path / f"{number:02}{suffix.upper() if number % 2 else suffix}").write_bytes(content.getvalue())
    (tmp_path / "notes.txt").write_text("no image")
    files = image_files(tmp_path)
    assert sorted(file.path.suffix.lower() for file in files) == sorted(known)
    assert all(file.squares([16])[0].shape == (3, 16, 16) for file in files)


def test_captions_are_optional_and_missing_images_are_counted(tmp_path, describers):
    place = tmp_path / "own"
    paths = shapes(place, 4)
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    texts = [{"text": "a"}, {"text": ""}, {}, {"caption": "b"}]
    lines = [{"file_name": name, "year": 1900} | text for name, text in zip(names, texts, strict=True)]
    lines += [{"file_name": "gone.png", "text": "c"}, {"file_name": "one"}]
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    index, state = indexed(tmp_path / "index", describers, place)
    rows = {row["path"]: row["caption"] for row in index.table.to_arrow().to_pylist()}
    assert rows == dict(zip(map(str, paths), ["a", "", None, "b"], strict=True))
    assert (state.total, state.added, state.done) == (6, 4, 6)
    assert all(f"own/{name}" in each for name, each in zip(["gone.png", "one"], state.unreadable, strict=True))
    tiny_image(20, 20).save(place / "gone.png")
    _, state = indexed(tmp_path / "index", describers, place)
    assert (state.unchanged, state.added, len(state.unreadable)) == (4, 1, 1)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"text": "a"}', "line 2: the key 'file_name' is missing"),
        ('{"file_name": "../0.png"}', "line 2: .*outside the folder"),
        ('["0.png"]', "line 2 is not a JSON object"),
        ('{"file_name": "0.png", "text": "a", "caption": "b"}', "has the keys text and caption"),
    ],
)
def test_invalid_lines_of_metadata_are_refused(tmp_path, line, sentence):
    (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "0.png"}}\n{line}\n')
    with pytest.raises(BadInput, match=sentence):
        image_files(tmp_path)


def test_subfolders_that_cannot_be_listed_are_counted(tmp_path, describers, monkeypatch):
    place, scandir = tmp_path / "own", os.scandir
    shapes(place, 4)
    closed = place / "two"

    def refusing(path):
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    index, state = indexed(tmp_path / "index", describers, place)
    assert (len(index), state.total, state.done) == (2, 3, 3)
    assert state.unreadable == [f"{closed} cannot be listed (Permission denied): make it readable."]
    with pytest.raises(BadInput, match=r"two cannot be listed \(Permission denied\)"):
        image_files(closed)
    monkeypatch.undo()
    _, state = indexed(tmp_path / "index", describers, place)
    assert (state.unchanged, state.added, state.unreadable) == (2, 2, [])
    for path in (place / "one").iterdir():
        path.unlink()
    monkeypatch.setattr("os.scandir", refusing)
    with pytest.raises(BadInput, match=r"own contains no image: .*two cannot be listed"):
        image_files(place)


def test_linked_subfolders_are_searched_once(tmp_path):
    """Links to a folder of the tree, to a folder elsewhere (twice), and back to the top."""
    place, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    shapes(place, 2)
    shapes(elsewhere, 2)
    (elsewhere / "one" / "back").symlink_to(place)
    (place / "a").symlink_to(place / "two")
    (place / "b").symlink_to(elsewhere)
    (place / "two" / "c").symlink_to(elsewhere / "one")
    (place / "two" / ".hidden").symlink_to(elsewhere)
    (place / "gone").symlink_to(tmp_path / "nowhere")
    found = {str(file.path.relative_to(place)): file.columns["folder"] for file in image_files(place)}
    assert found == {"one/000.png": "one", "two/001.png": "two", "b/one/000.png": "b", "b/two/001.png": "b"}
