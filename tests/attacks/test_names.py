"""File names stored in files stay inside their folder: nothing outside is read, written or removed."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sfumato.bench.journal import Journal
from sfumato.bench.runner import edited_image_path
from sfumato.cli.swept import SweptFolder
from sfumato.data.corpus import TABLE
from sfumato.data.emoji import build
from sfumato.errors import BadInput
from sfumato.paths import inside
from tests.attacks.limits import refused
from tests.data import fake


@pytest.fixture
def cache(tmp_path):
    fake.iconify(tmp_path / "cache", "noto", fake.NOTO)
    return tmp_path / "cache"


def made(out, cache, **options):
    return build(out, cache=cache, styles=["noto"], workers=1, size=16, **options)


@pytest.fixture
def victims(tmp_path):
    """Files outside the corpus: a text file and an image."""
    (tmp_path / "outside").mkdir()
    files = [tmp_path / "victim.txt", tmp_path / "outside" / "victim.png"]
    files[0].write_text("keep me")
    Image.new("RGB", (3, 3)).save(files[1])
    return files


def poison(out, names):
    table = pq.read_table(out / TABLE).to_pylist()
    rows = [table[n % len(table)] | {"file": name} for n, name in enumerate(names)]
    pq.write_table(pa.Table.from_pylist([*table, *rows]), out / TABLE)


def test_build_does_not_remove_files_outside_the_corpus(tmp_path, cache, victims):
    out = tmp_path / "out"
    made(out, cache)
    (out / "images" / "link").symlink_to(tmp_path / "outside")
    made(tmp_path / "other", cache)
    images = [str(path) for path in (tmp_path / "other").rglob("*.png")]
    names = ["../victim.txt", str(victims[0]), str(victims[1]), "images/link/victim.png", "images/../../victim.txt"]
    poison(out, [*names, *images, "images/\0", "", ".", "images", "n" * 300])
    made(out, cache)
    assert all(path.exists() for path in victims)
    assert len(list((tmp_path / "other").rglob("*.png"))) == 6


def test_build_removes_only_files_of_earlier_builds(tmp_path, cache):
    out = tmp_path / "out"
    made(out, cache)
    (out / "notes.txt").write_text("mine")
    Image.new("RGB", (3, 3)).save(out / "images" / "mine.png")
    poison(out, ["notes.txt", "images/mine.png", "ATTRIBUTION.md"])
    made(out, cache, limit=3)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "images" / "mine.png").exists()
    assert len(list((out / "images" / "noto").glob("*.png"))) == 3  # what a build wrote is removed


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table"])
def test_broken_table_of_an_earlier_build_is_replaced(tmp_path, cache, content):
    made(tmp_path / "out", cache)
    (tmp_path / "out" / TABLE).write_bytes(content)
    assert made(tmp_path / "out", cache).images == 6
    assert len(pq.read_table(tmp_path / "out" / TABLE)) == 6


@pytest.mark.parametrize("name", [TABLE, "build.json", "ATTRIBUTION.md", "images/noto", "images/noto/1f34e.png"])
def test_build_does_not_write_through_symbolic_links(tmp_path, cache, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    target = tmp_path / "elsewhere"
    target.write_text("keep me")
    (out / name).symlink_to(target)
    with refused("by its name or through a symbolic link"):
        made(out, cache)
    assert target.read_text() == "keep me"


def test_results_are_not_written_through_symbolic_links(tmp_path):
    target, out = tmp_path / "elsewhere", tmp_path / "out"
    target.write_text("keep me")
    out.mkdir()
    (out / "journal.jsonl").symlink_to(target)
    (out / "table.csv").symlink_to(target)
    (out / "images").symlink_to(tmp_path)
    with refused("by its name or through"):
        Journal(out, {})
    with refused("by its name or through"):
        SweptFolder(out, 1).check([])
    with refused("by its name or through"):
        edited_image_path(out, "s", "elsewhere")
    with refused("by its name"):
        edited_image_path(tmp_path / "new", "s", "../../../elsewhere")
    assert target.read_text() == "keep me"


def test_inside_rejects_paths_that_leave_the_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "real" / "out").symlink_to(tmp_path)
    (tmp_path / "folder").symlink_to("real")
    for folder in (tmp_path / "real", tmp_path / "folder"):
        assert inside(folder, "a/b.png")
        assert inside(folder, "a/../b.png")
        assert inside(folder, str(tmp_path / "real" / "a"))
        for name in ("../a", "/etc/passwd", "out/a", "a/../../b", "\0", "\ud800\0", None, 3, b"a", ["a"]):
            assert not inside(folder, name), name
    with pytest.raises(BadInput):
        edited_image_path(tmp_path, "s", "../" * 5 + "etc/passwd")
