"""The records of a run: its history, its log, and the training summary exported with its weights."""

import dataclasses
import itertools
import json
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from sfumato.errors import BadInput
from sfumato.train.loop import Run
from sfumato.train.record import Record, changes, read_summary
from sfumato.train.report import parts
from tests.attacks.limits import at_once, refused
from tests.files.disk import largest_file
from tests.train.toy import ToyTask, toy_recipe


def run_of(folder, steps, **changed):
    return Run(ToyTask(), toy_recipe(steps, **changed), folder, "cpu")


def rows(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_log_drops_steps_after_the_resumed_checkpoint(tmp_path):
    list(run_of(tmp_path, 6).steps())
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "samples": 28}\n{"step": 8, "sam')
    list(run_of(tmp_path, 8).steps())
    logged = rows(tmp_path, "log.jsonl")
    assert [row["step"] for row in logged] == list(range(1, 9))
    assert {"samples", "seconds", "elapsed", "first/loss", "first/error", "first/gradient"} <= logged[0].keys()


def test_every_checkpoint_step_is_logged(tmp_path):
    list(run_of(tmp_path, 8, log_every=5, checkpoint_every=3).steps())
    assert [row["step"] for row in rows(tmp_path, "log.jsonl")] == [3, 5, 6, 8]


def test_history_records_time_device_and_changes(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    list(run_of(tmp_path, 4).steps())
    list(run_of(tmp_path, 4, lr=0.5).steps())  # nothing to do: no line
    run_of(tmp_path, 9, lr=0.5)  # opened, not trained
    list(run_of(tmp_path, 6, lr=0.25, batch=8).steps())
    first, second = rows(tmp_path, "history.jsonl")
    assert (first["step"], first["samples"], first["changed"]) == (0, 0, {})
    assert (second["step"], second["samples"]) == (4, 16)
    assert second["changed"] == {"optim.batch": [4, 8], "optim.lr": [0.01, 0.25], "run.steps": [4, 6]}
    assert before <= datetime.fromisoformat(first["time"]) <= datetime.fromisoformat(second["time"])
    for entry in (first, second):
        assert (entry["device"], entry["threads"], entry["processes"]) == ("cpu", torch.get_num_threads(), 1)
        assert entry["versions"]["torch"] == torch.__version__
        assert {"sfumato", "diffusers", "transformers", "accelerate"} < entry["versions"].keys()
    assert json.loads((tmp_path / "recipe.json").read_text())["optim"]["lr"] == 0.25


@pytest.mark.parametrize("images", [None, "3", [1]])
def test_unknown_number_of_images_in_the_history_is_ignored(tmp_path, caplog, images):
    (tmp_path / "history.jsonl").write_text(json.dumps({"step": 0, "images": images}) + "\n")
    list(run_of(tmp_path, 1).steps())
    assert rows(tmp_path, "history.jsonl")[1]["images"] == 0
    assert not caplog.messages


def test_added_and_removed_settings_are_changes():
    one = dataclasses.asdict(dataclasses.replace(toy_recipe(), network={"f": 4, "channels": (8, 8)}))
    two = dataclasses.asdict(dataclasses.replace(toy_recipe(), network={"f": 4, "layers": 1}))
    assert changes(one, two) == {"network.channels": [[8, 8], None], "network.layers": [None, 1]}
    assert changes(json.loads(json.dumps(one)), one) == {}
    assert changes({}, one) == {}


def test_seconds_accumulate_over_resumed_runs(tmp_path, monkeypatch):
    clock = itertools.count(0.0, 1.0)  # advances by one second per reading
    monkeypatch.setattr("sfumato.train.loop.time", SimpleNamespace(monotonic=lambda: next(clock)))
    reports = list(run_of(tmp_path, 3).steps())
    run = run_of(tmp_path, 6)
    assert run.seconds == reports[-1].elapsed
    elapsed = [report.elapsed for report in [*reports, *run.steps()]]
    assert all(after > before for before, after in pairwise(elapsed))
    assert elapsed[-1] > sum(report.seconds for report in reports)
    assert run.seconds >= elapsed[-1]


def test_seconds_are_estimated_from_older_logs(tmp_path):
    lines = [{"step": 10, "seconds": 2.0}, {"step": 20, "seconds": 1.0}, {"step": 25, "elapsed": 40.0}, {"step": 30}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    record = Record(tmp_path, toy_recipe())
    assert [record.seconds(step) for step in (0, 10, 20, 25, 30)] == [0.0, 20.0, 30.0, 40.0, 40.0]


def test_export_contains_the_training_summary(tmp_path):
    list(run_of(tmp_path / "first", 4).steps())
    run_of(tmp_path / "first", 4).export(tmp_path / "model")
    found = json.loads((tmp_path / "model" / "training.json").read_text())
    assert (found["kind"], found["step"], found["samples"], found["pictures"]) == ("toy", 4, 16, 0)
    assert (found["device"], found["parameters"]) == ("cpu", {"first": 4 * 16 + 16 + 16 * 4 + 4})
    assert found["seconds"] >= 0
    assert found["recipe"] == json.loads((tmp_path / "first" / "recipe.json").read_text())
    assert found["history"] == rows(tmp_path / "first", "history.jsonl")
    assert "start" not in found
    recipe = dataclasses.replace(toy_recipe(2), network={"start": str(tmp_path / "model")})
    run = Run(ToyTask(), recipe, tmp_path / "second", "cpu")
    list(run.steps())
    run.export(tmp_path / "model 2")
    assert json.loads((tmp_path / "model 2" / "training.json").read_text())["start"] == found


@pytest.mark.parametrize(("kind", "found"), [("toy", True), ("autoencoder", False)])
def test_start_that_is_a_part_of_a_pipeline_has_its_summary(tmp_path, kind, found):
    """The summary of a U-Net is in the folder of its pipeline; that of an autoencoder would be in vae/ itself."""
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "training.json").write_text(json.dumps(SUMMARY))
    recipe = dataclasses.replace(toy_recipe(2), kind=kind, network={"start": str(tmp_path / "model" / "unet")})
    assert "start" not in Record(tmp_path / "run", recipe).summary(1, 4, 1.0)
    (tmp_path / "model" / "model_index.json").write_text("{}")
    assert Record(tmp_path / "run", recipe).summary(1, 4, 1.0).get("start") == (SUMMARY if found else None)


def test_scalars_have_six_significant_digits(tmp_path):
    Record(tmp_path, toy_recipe()).log(1, 4, 0.1, 0.1, {"kl": 4.1234567e-7, "psnr": 23.4567891, "large": 1234567.8})
    (row,) = rows(tmp_path, "log.jsonl")
    assert (row["kl"], row["psnr"], row["large"]) == (4.12346e-7, 23.4568, 1234570.0)


def test_full_disk_while_logging_is_reported(tmp_path):
    record = Record(tmp_path, toy_recipe())
    with largest_file(10), pytest.raises(BadInput, match=r"log\.jsonl cannot be written \(File too large\): make room"):
        record.log(1, 4, 0.1, 0.1, {"loss": 1.0})


FLOODS = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"step": 1, "a": ' + '{"a":' * 500 + "1" + "}" * 501,
    "5000 digits": f'{{"step": {"1" * 5000}}}',
    "4000 digits": f'{{"step": {"1" * 4000}}}',
    "step of another type": '{"step": "1"}',
    "seconds of another type": '{"step": 1, "seconds": "1"}',
    "elapsed of another type": '{"step": 1, "elapsed": [1]}',
    "no object": "3",
    "no UTF-8": "\udcff",
}


@pytest.mark.parametrize("line", FLOODS.values(), ids=FLOODS.keys())
def test_invalid_log_lines_are_ignored(tmp_path, line):
    for name in ("log.jsonl", "history.jsonl"):
        content = f'{{"step": 1, "elapsed": 2.0}}\n{line}\n{{"step": 2, "elapsed": 3.0}}\n'
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with at_once():
        record = Record(tmp_path, toy_recipe())
        assert record.seconds(9) == 3.0
        assert [row["step"] for row in record.summary(2, 8, 3.0)["history"]] == [1, 2]
        record.begin(9, 36, torch.device("cpu"), 1, 0)
    assert [row["step"] for row in rows(tmp_path, "log.jsonl")] == [1, 2]


@pytest.mark.parametrize("name", ["log.jsonl", "history.jsonl"])
def test_endless_line_is_refused(tmp_path, name):
    with open(tmp_path / name, "wb") as file:
        file.truncate(1 << 40)
    record = Record(tmp_path, toy_recipe())
    with refused(f"{name} has a line of more than"):
        record.summary(1, 4, record.seconds(1))


TABLES = FLOODS | {"no JSON": '{"a":', "empty": ""}


@pytest.mark.parametrize("text", [TABLES[name] for name in TABLES if "another type" not in name])
def test_unreadable_previous_recipe_is_refused(tmp_path, text):
    (tmp_path / "recipe.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with refused("recipe.json"):
        Record(tmp_path, toy_recipe()).begin(0, 0, torch.device("cpu"), 1, 0)


SUMMARY = {"kind": "toy", "step": 4, "samples": 16, "seconds": 1.5, "pictures": 3, "device": "cpu"}
SUMMARIES = [
    *TABLES.values(),
    *(json.dumps(SUMMARY | {name: None}) for name in SUMMARY if name not in ("kind", "step")),
]
SUMMARIES += [json.dumps(SUMMARY | {"start": start}) for start in (3, {}, SUMMARY | {"seconds": "1"})]


@pytest.mark.parametrize("text", SUMMARIES)
def test_invalid_training_summary_is_refused(tmp_path, text):
    assert read_summary(tmp_path) == {}
    (tmp_path / "training.json").write_text(json.dumps(SUMMARY))
    assert read_summary(tmp_path) == SUMMARY
    (tmp_path / "training.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    for read in (
        lambda: read_summary(tmp_path),
        lambda: Record(tmp_path / "run", dataclasses.replace(toy_recipe(), network={"start": str(tmp_path)})),
        lambda: parts(tmp_path),
    ):
        with refused("training.json"):
            read()
