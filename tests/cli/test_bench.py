"""`sfumato bench` on a tiny copy of PIE-Bench's layout and a tiny model."""

import json
import shutil
import subprocess
import sys
from argparse import Namespace
from types import SimpleNamespace

import pytest

from sfumato import __version__
from sfumato.bench.evaluating import evaluator_fingerprint
from sfumato.bench.items import Item, ItemImages
from sfumato.bench.piebench import PieBench
from sfumato.cli.bench import _items
from sfumato.errors import BadInput
from sfumato.metrics import SHIPPED, Evaluator
from tests.bench import small
from tests.bench.conftest import small_images  # noqa: F401
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
    """Run the command with all required arguments, followed by the given ones."""
    clip = tmp_path_factory.mktemp("clip")
    save_clip(clip)
    small.layout(folder / "pie")
    (folder / "rows.toml").write_text(ROWS)
    fixed = ("bench", "piebench", "--data", "pie", "--rows", "rows.toml", "--clip", clip, "--out", "out")
    return lambda *words, model=tiny_sd_folder: sfumato(*fixed, "--model", model, *words)


def test_bench_writes_table_and_reports_and_resumes(typed, folder):
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


def test_failed_edit_is_reported_with_exit_code_1(typed, folder):
    table = json.loads((folder / "pie/mapping_file.json").read_text())
    table["000000000000"]["image_path"] = "gone.jpg"
    (folder / "pie/mapping_file.json").write_text(json.dumps(table))
    run = typed()
    assert run.code == 1
    assert "2 edits failed, the first, 000000000000, with: " in run.out
    assert "gone.jpg does not exist" in run.out
    assert "means are over" not in run.out  # the same edit failed in every row


def test_output_states_which_edits_the_means_cover(typed, folder):
    table = json.loads((folder / "pie/mapping_file.json").read_text())
    (folder / "rows.toml").write_text("[[row]]".join(ROWS.split("[[row]]")[:2]))
    typed("--limit", 2)
    table["000000000000"]["image_path"] = "gone.jpg"
    (folder / "pie/mapping_file.json").write_text(json.dumps(table))
    journal = (folder / "out/journal.jsonl").read_text().splitlines()
    about = json.loads(journal[0]) | {"benchmark": PieBench(folder / "pie").identity}
    (folder / "out/journal.jsonl").write_text("\n".join([json.dumps(about), *journal[1:], ""]))
    (folder / "rows.toml").write_text(ROWS)
    run = typed("--limit", 2)
    assert run.code == 1
    assert "means are over the edits that all settings finished: 1 of 2" in run.out


def test_kinds_option_selects_edits(typed):
    assert typed("--kinds", "random", "--json").json["edits"] == 1
    assert "'change object'" in typed("--kinds", "change objects").refused()


def test_splits_option_selects_edits(typed):
    assert "piebench has no splits: leave --splits out" in typed("--splits", "test").refused()
    edits = [
        Item(f"{kind}-{split}", kind, split, "", "", ItemImages) for kind in ("hair", "tone") for split in ("a", "b")
    ]
    pairs = SimpleNamespace(name="pairs", items=edits[:3])

    def chosen(kinds=None, splits=None):
        return [item.name for item in _items(pairs, Namespace(kinds=kinds, splits=splits, limit=None))]

    assert chosen() == ["hair-a", "tone-a", "hair-b"]
    assert chosen(splits=["a"]) == ["hair-a", "tone-a"]
    assert chosen(kinds=["hair"], splits=["b"]) == ["hair-b"]
    with pytest.raises(BadInput, match="pairs has no split 'c'; choose from a, b"):
        chosen(splits=["c"])
    with pytest.raises(BadInput, match="no edit of the kinds tone is in the splits b"):
        chosen(kinds=["tone"], splits=["b"])


def test_another_model_requires_another_output_folder(typed, tiny_sd2_folder):
    typed("--limit", 1)
    run = typed("--limit", 1, model=tiny_sd2_folder)
    assert run.code == 2
    assert "another model" in run.err


@pytest.mark.parametrize(
    ("flags", "name"), [(("--prompt-weights",), "prompt_weights"), (("--prompt-chunks", 2), "prompt_chunks")]
)
def test_another_reading_of_prompts_requires_another_output_folder(typed, folder, flags, name):
    """A journal of an older version has no such field and was made without these options."""
    (folder / "rows.toml").write_text("[[row]]".join(ROWS.split("[[row]]")[:2]))
    journal = folder / "out/journal.jsonl"
    assert typed("--limit", 1).code == 0
    first, *rest = journal.read_text().splitlines()
    older = {key: value for key, value in json.loads(first).items() if key not in ("prompt_weights", "prompt_chunks")}
    for about in (json.loads(first), older):
        journal.write_text("\n".join([json.dumps(about), *rest, ""]))
        assert typed("--limit", 1).code == 0
        assert f"out contains results of another {name}: " in typed("--limit", 1, *flags).err
    journal.unlink()
    assert typed("--limit", 1, *flags).code == 0
    assert typed("--limit", 1, *flags).code == 0
    assert f"out contains results of another {name}: " in typed("--limit", 1).err


def test_default_evaluator_is_that_of_the_model(sfumato, folder, tiny_sd_folder):
    """As for sweep; a model without a dual encoder needs --clip."""
    small.layout(folder / "pie")
    (folder / "rows.toml").write_text('[[row]]\nname = "unchanged"\nmethod = "unchanged"\n')
    shutil.copytree(tiny_sd_folder, folder / "model")
    words = (
        "bench",
        "piebench",
        "--data",
        "pie",
        "--rows",
        "rows.toml",
        "--model",
        "model",
        "--limit",
        1,
        "--out",
        "out",
    )
    assert "name a CLIP with --clip" in sfumato(*words).refused()
    save_clip(folder / "model/dual_encoder")
    assert sfumato(*words).code == 0
    first = json.loads((folder / "out/journal.jsonl").read_text().splitlines()[0])
    assert first["evaluator"] == evaluator_fingerprint(Evaluator.load(folder / "model/dual_encoder"))


def test_rows_with_equal_settings_are_rejected(typed, folder):
    (folder / "rows.toml").write_text(ROWS + ROWS.replace("few steps", "again").replace("img2img", "other", 1))
    assert "rows 'few steps' and 'again' are one setting" in typed().refused()


def test_journal_records_device_and_versions(typed, folder):
    typed("--limit", 1)
    first = json.loads((folder / "out/journal.jsonl").read_text().splitlines()[0])
    assert first["made_with"]["device"] == "cpu"
    assert first["made_with"]["versions"]["sfumato"] == __version__


def test_another_evaluator_requires_another_output_folder(typed, folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    save_clip(other)
    config = json.loads((other / "preprocessor_config.json").read_text())
    typed("--limit", 1)
    typed("--limit", 1, "--structure", other)
    (other / "preprocessor_config.json").write_text(json.dumps(config | {"image_std": [0.4, 0.4, 0.4]}))
    run = typed("--limit", 1, "--structure", other)
    assert run.code == 2
    assert "another evaluator" in run.err


def test_library_warnings_are_not_printed(tmp_path, monkeypatch):
    """Libraries warn when they are imported, so the command runs in a new process."""
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):  # set by commands that ran in this process
        monkeypatch.delenv(name, raising=False)
    words = ["bench", "piebench", "--data", ".", "--out", "out"]
    code = f"import sys; from sfumato.cli import main; sys.exit(main({words}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("sfumato: . is not PIE-Bench")
    assert len(run.stderr.splitlines()) == 1


def test_invalid_input_gives_one_line(sfumato, folder):
    assert "piebench" in sfumato("bench", "piebenhc", "--out", "out").refused()
    assert "--data" in sfumato("bench", "piebench", "--out", "out").refused()
    assert "--size" in sfumato("bench", "piebench", "--data", ".", "--size", 64, "--out", "out").refused()
    assert "not PIE-Bench" in sfumato("bench", "piebench", "--data", ".", "--out", "out").refused()
    assert "sfumato data emoji" in sfumato("bench", "pairs", "--out", "out").refused()
    assert "--limit" in sfumato("bench", "pairs", "--out", "out", "--limit", 0).refused()
    small.layout(folder / "pie")
    (folder / "rows.toml").write_text('[[row]]\nname = "a"\nmethod = "magic"')
    assert "magic" in sfumato("bench", "piebench", "--data", "pie", "--rows", "rows.toml", "--out", "out").refused()


@pytest.mark.parametrize(("flags", "sizes"), [((), [64, 32]), (("--size", 48), [48])])
def test_pairs_have_the_size_of_the_model_by_default(typed, sfumato, tiny_sd_folder, monkeypatch, flags, sizes):
    """The list is checked before the model is loaded, and the images are read at the size of the model."""
    used = []

    class Pairs:
        def __init__(self, corpus, size):
            used.append(size)
            self.items = [Item("a", "colour", "test", "red", "blue", lambda: None)]
            if len(used) == len(sizes):
                self.items = []

    monkeypatch.setattr("sfumato.bench.pairs.PairBenchmark", Pairs)
    words = ("--data", "pie", "--model", tiny_sd_folder, "--out", "pairs", "--clip", SHIPPED, *flags)
    assert "contains no edits" in sfumato("bench", "pairs", *words).refused()
    assert used == sizes
