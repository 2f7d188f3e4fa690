"""`sfumato bench` as typed, on a tiny copy of PIE-Bench's layout and a tiny model."""

import json
from argparse import Namespace
from types import SimpleNamespace

import pytest

from sfumato.bench.items import Item, Pictures
from sfumato.cli.bench import _items
from sfumato.errors import BadInput
from tests.bench import small
from tests.metrics.test_text import save_clip

ROWS = """
[[row]]
name = "few steps"
method = "edit-friendly"
steps = 3
skip = 1

[[row]]
name = "img2img"
method = "diffusers-img2img"
steps = 3
skip = 1
"""


@pytest.fixture
def typed(sfumato, folder, tiny_sd_folder, tmp_path_factory):
    """The command with everything that it needs; more words may follow."""
    clip = tmp_path_factory.mktemp("clip")
    save_clip(clip)
    small.layout(folder / "pie")
    (folder / "rows.toml").write_text(ROWS)
    fixed = ("--data", "pie", "--rows", "rows.toml", "--model", tiny_sd_folder, "--clip", clip, "--out", "out")
    return lambda *words: sfumato("bench", "piebench", *fixed, *words)


def test_a_table_the_reports_and_a_second_run_that_goes_on(typed, folder):
    run = typed("--limit", 2)
    assert run.code == 0, run.err
    lines = run.out.splitlines()
    assert lines[0].split()[:3] == ["setting", "edits", "failed"]
    assert [line.split()[:2] for line in lines[1:3]] == [["few", "steps"], ["img2img", "2"]]
    assert {"out/journal.jsonl", "out/results.parquet", "out/report.html"} <= run.files
    before = (folder / "out/journal.jsonl").read_text()
    again = typed("--limit", 3, "--json")
    found = again.json
    assert (found["edits"], found["failed"]) == (3, 0)
    assert (folder / "out/journal.jsonl").read_text().startswith(before)
    whole = [line for line in found["lines"] if line["group"] == "all"]
    assert [line["finished"] for line in whole] == [3, 3]
    assert whole[0]["params"]["steps"] == 3
    assert {line["group"] for line in found["lines"]} == {"all", "random", "change object"}


def test_a_failed_edit_is_said_and_the_code_is_1(typed, folder):
    table = json.loads((folder / "pie/mapping_file.json").read_text())
    table["000000000000"]["image_path"] = "gone.jpg"
    (folder / "pie/mapping_file.json").write_text(json.dumps(table))
    run = typed()
    assert run.code == 1
    assert "2 edits failed, the first, 000000000000, with: " in run.out
    assert "gone.jpg does not exist" in run.out


def test_kinds(typed):
    assert typed("--kinds", "random", "--json").json["edits"] == 1
    assert "'change object'" in typed("--kinds", "change objects").refused()


def test_splits(typed):
    assert "no split 'tests'" in typed("--splits", "tests").refused()
    edits = [
        Item(f"{kind}-{split}", kind, split, "", "", Pictures) for kind in ("hair", "tone") for split in ("a", "b")
    ]
    pairs = SimpleNamespace(name="pairs", items=edits[:3])

    def chosen(kinds=None, splits=None):
        return [item.name for item in _items(pairs, Namespace(kinds=kinds, splits=splits, limit=None))]

    assert chosen() == ["hair-a", "tone-a", "hair-b"]
    assert chosen(splits=["a"]) == ["hair-a", "tone-a"]
    assert chosen(kinds=["hair"], splits=["b"]) == ["hair-b"]
    with pytest.raises(BadInput, match="no edit is of the kinds tone and of the splits b together"):
        chosen(kinds=["tone"], splits=["b"])


def test_another_model_needs_another_folder(typed, tiny_sd2_folder):
    typed("--limit", 1)
    run = typed("--limit", 1, "--model", tiny_sd2_folder)
    assert run.code == 2
    assert "another model" in run.err


def test_mistakes_cost_one_sentence(sfumato, folder):
    assert "piebench" in sfumato("bench", "piebenhc", "--out", "out").refused()
    assert "--data" in sfumato("bench", "piebench", "--out", "out").refused()
    assert "--size" in sfumato("bench", "piebench", "--data", ".", "--size", 64, "--out", "out").refused()
    assert "not PIE-Bench" in sfumato("bench", "piebench", "--data", ".", "--out", "out").refused()
    assert "sfumato data emoji" in sfumato("bench", "pairs", "--out", "out").refused()
    assert "--limit" in sfumato("bench", "pairs", "--out", "out", "--limit", 0).refused()
    small.layout(folder / "pie")
    (folder / "rows.toml").write_text('[[row]]\nname = "a"\nmethod = "magic"')
    assert "magic" in sfumato("bench", "piebench", "--data", "pie", "--rows", "rows.toml", "--out", "out").refused()
