"""`sfumato index` and `sfumato search`."""

import json

import numpy as np
import pytest
from PIL import Image

from sfumato.retrieval.files import ImageFile
from sfumato.retrieval.index import STAMP, ImageIndex
from tests.style.small import save_both, shapes


@pytest.fixture
def flags(encoders):
    return ["--content-encoder", encoders[0], "--style-encoder", encoders[1]]


def test_index_and_search(sfumato, flags, tmp_path):
    paths = shapes(tmp_path / "own", 9)
    (tmp_path / "own" / "bad.jpg").write_bytes(b"no image")
    made = sfumato("index", "own", "--out", "own.index", *flags, "--batch", 4, "--json")
    assert made.code == 0, made.err
    assert (made.json["images"], made.json["added"], len(made.json["unreadable"])) == (9, 9, 1)
    assert "left out: " in made.err
    assert "bad.jpg" in made.err
    again = sfumato("index", "own", "--out", "own.index", *flags)
    assert (
        "9 images, 0 added (0 of them again, because their file or metadata had changed), 9 unchanged, 1 unreadable"
        in again.out
    )

    found = sfumato("search", "own.index", "--image", paths[4], "-k", 3, *flags, "-o", "found.png", "--json")
    assert found.code == 0, found.err
    assert found.json["weights"] == {"content": 0.5, "style": 0.5}
    assert found.json["found"][0]["path"] == str(paths[4])
    assert len(found.json["found"]) == 3
    assert np.asarray(Image.open("found.png")).shape[0] > 2 * 20

    both = sfumato("search", "own.index", "--text", "red apple", "--style", paths[1], "--style-weight", 3, *flags)
    assert both.out.splitlines()[0].split() == ["score", "content", "style", "image"]
    one = sfumato(
        "search", "own.index", "--style-text", "flat", "--where", "folder = 'one'", *flags, "--exact", "--json"
    )
    assert {hit["folder"] for hit in one.json["found"]} == {"one"}
    assert (one.json["notes"], one.err) == ([], "")
    worded = sfumato("search", "own.index", "--style-text", "flat oil", "in round ink", *flags, "--json")
    assert worded.json["notes"] == ['The style encoder knows no "oil", "ink": they have no effect.']
    assert worded.err == f"sfumato: {worded.json['notes'][0]}\n"


def test_computed_columns_take_precedence_over_metadata(sfumato, flags, describers, tmp_path, monkeypatch):
    """Also in an index of an earlier version, which may have columns of these names."""
    monkeypatch.setattr("sfumato.retrieval.columns.COMPUTED", ())
    place = tmp_path / "own"
    paths = shapes(place, 2)
    own = {"text": "a", "score": 7, "cosines": "x"}
    lines = [{"file_name": f"{each.parent.name}/{each.name}"} | own for each in paths]
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert sfumato("index", "own", "--out", "own.index", *flags).code == 0
    (hit, _) = sfumato("search", "own.index", "--style", paths[0], *flags, "--json").json["found"]
    assert hit["score"] == pytest.approx(1, abs=1e-5)
    assert hit["cosines"] == {"style": pytest.approx(hit["score"])}


def test_sheet_is_written_atomically(sfumato, flags, index, tmp_path, monkeypatch):
    (tmp_path / "sheet.png").write_bytes(b"before")

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    words = ["search", index.uri, "--style-text", "flat", *flags, "-o", "sheet.png"]
    with monkeypatch.context() as patched:
        patched.setattr("PIL.ImageFile._save", interrupted)
        sfumato(*words)
    assert (tmp_path / "sheet.png").read_bytes() == b"before"
    assert sfumato(*words).code == 0
    assert Image.open("sheet.png").size[0] > 96


def test_indexed_query_image_uses_stored_descriptors(sfumato, flags, describers, tmp_path):
    """Random descriptors are stored for two files; then one of the files changes."""
    paths = shapes(tmp_path / "own", 6)
    assert sfumato("index", "own", "--out", "own.index", *flags).code == 0
    index = ImageIndex.open("own.index")
    draw = np.random.default_rng(0)
    vectors = {name: draw.standard_normal((2, d)).astype(np.float32) for name, d in (("content", 10), ("style", 12))}
    vectors = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in vectors.items()}
    stamps = [file.stamp for file in (ImageFile(paths[0], {"folder": "one"}), ImageFile(paths[1], {"folder": "two"}))]
    rows = [
        {"path": str(path)} | dict(zip(STAMP, stamp, strict=True)) for path, stamp in zip(paths, stamps, strict=False)
    ]
    index.add(rows, vectors)
    Image.new("RGB", (20, 20), "red").save(paths[1])

    def cosines(path):
        hits = sfumato("search", "own.index", "--image", path, "-k", 6, *flags, "--json").json["found"]
        return next(hit["cosines"] for hit in hits if hit["path"] == str(tmp_path / path))

    assert cosines("own/one/000.png") == pytest.approx({"content": 1, "style": 1}, abs=1e-5)
    assert min(cosines("own/two/001.png").values()) < 0.99


def test_invalid_input_gives_one_line(sfumato, flags, index, tmp_path):
    for words, sentence in (
        (["search", index.uri, *flags], "nothing to search for"),
        (["search", index.uri, "--text", "", *flags], "text is empty"),
        (["search", index.uri, "--style-text", "flat", "--style-weight", "0", *flags], "all 0"),
        (["search", index.uri, "--text", "red apple", "--style-weight", "3", *flags], "no style to search for: give"),
        (["search", index.uri, "--style-text", "flat", "--content-weight", "0", *flags], "no content to search for"),
        (["search", index.uri, "--style-text", "nosuchword", *flags], "trained with no word"),
        (["search", "nowhere", "--text", "red apple", *flags], "no index nowhere"),
        (["search", index.uri, "--style", "photo.png", "-o", "photo.png", *flags], "is an input"),
        (["search", index.uri, "--style", "photo.png", "-o", "sheet.txt", *flags], "sheet.txt"),
        (["index", "nowhere", "--out", "x", *flags], "is not a folder"),
        (["index", ".", "--out", "x", *flags[:2], "--style-encoder", "photo.png"], "photo.png"),
        (["index", ".", "--out", "x", *flags, "--device", "abacus"], "abacus"),
    ):
        assert sentence in sfumato(*words).refused(), words


def test_contact_sheet_may_not_overwrite_an_indexed_image(sfumato, flags, tmp_path):
    """Also one that is not found, one that has changed, and under another name; refused before the search."""
    paths = shapes(tmp_path / "own", 3)
    assert sfumato("index", "own", "--out", "own.index", *flags).code == 0
    (tmp_path / "link.png").symlink_to(paths[1])
    Image.new("RGB", (20, 20), "red").save(paths[2])
    for out in (paths[0], paths[0].relative_to(tmp_path), "link.png", paths[2]):
        run = sfumato("search", "own.index", "--style-text", "nosuchword", "-k", 1, *flags, "-o", out)
        assert "would be overwritten" in run.refused(), out
    (tmp_path / "sheet.png").write_bytes(b"")
    assert sfumato("search", "own.index", "--style-text", "flat", *flags, "-o", "sheet.png").code == 0


def test_search_by_another_encoder_is_refused(sfumato, flags, index, tmp_path):
    other = save_both(tmp_path / "other", seed=1)
    flags = ["--content-encoder", other[0], "--style-encoder", other[1]]
    found = sfumato("search", index.uri, "--style-text", "flat", *flags)
    assert "style descriptors of" in found.err
    assert "--style-encoder" in found.err
