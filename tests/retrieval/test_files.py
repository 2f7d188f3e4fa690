"""Images of the emoji corpus as an index sees them: as in training, with the columns of its table."""

import numpy as np

from sfumato.data.dataset import CaptionedImages
from sfumato.data.splits import split_of
from sfumato.retrieval.files import image_files
from sfumato.train.contrast import Labels
from tests.data.test_dataset import corpus  # noqa: F401
from tests.retrieval.conftest import indexed


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
