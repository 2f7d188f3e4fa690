"""Two processes under torchrun on the CPU (gloo) train as one process that sees both batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from sfumato.train import processes
from sfumato.train.checkpoint import newest_checkpoint, read_checkpoint
from tests.train.ranks import Together, equalities, write_parasol_data

ROOT = Path(__file__).parents[2]
# The address is given because torchrun's default, the host name, hangs for minutes if it cannot be resolved.
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc_per_node=2")

# On a busy machine a process sometimes aborts with this message or hangs: a C++ thread of torch outlives its owner, and
# no Python code is involved. These tests check the computed results, so the processes are started again.
ABORTED = "terminate called without an active exception"
ATTEMPTS, PATIENCE = 3, 150

# The run time is not tested; the limits only end a hang.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def two_processes(make_folder, data):
    """Run `tests.train.ranks` on `data` in two processes; return the new folder that they write to."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    for _ in range(ATTEMPTS):
        folder = make_folder()
        torchrun = subprocess.Popen(
            [sys.executable, *TORCHRUN, "-m", "tests.train.ranks", str(folder), str(data)],
            cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            _, said = torchrun.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            for process in (*psutil.Process(torchrun.pid).children(recursive=True), torchrun):
                process.kill()
            _, said = torchrun.communicate()
            continue
        if ABORTED not in said:
            break
    assert torchrun.returncode == 0, said[-3000:]
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(folder and reports of two processes, folder and report of one)."""
    data = write_parasol_data(tmp_path_factory.mktemp("data"))
    one, two = tmp_path_factory.mktemp("one"), two_processes(lambda: tmp_path_factory.mktemp("two"), data)
    reports = [json.loads((two / f"report-{rank}.json").read_text()) for rank in range(2)]
    return two, reports, one, equalities(Together, one, data)


@pytest.mark.parametrize(("scenario", "samples"), [("toy", 6 * 2 * 2 * 4), ("gan", 6 * 2 * 2), ("parasol", 6 * 2 * 3)])
def test_two_processes_train_as_one_with_both_batches(both, scenario, samples):
    two, reports, one, alone = both
    for report in reports:
        assert report[scenario] == {"spread": 0.0, "step": 6, "samples": samples}
    assert alone[scenario]["step"] == 6
    mine, theirs = (read_checkpoint(newest_checkpoint(f / scenario / "checkpoints"))[0] for f in (two, one))
    assert mine.keys() == theirs.keys()
    for file in mine:
        for name, value in mine[file].items():
            if not name.endswith("exp_avg_sq"):  # Adam's squares add nothing to its mean gradient
                torch.testing.assert_close(value, theirs[file][name], rtol=1e-4, atol=2e-6, msg=f"{file}: {name}")


def test_adaptive_weight_is_computed_over_all_processes(both):
    two, _, one, _ = both
    mine, theirs = (
        [json.loads(line).get("autoencoder/adaptive_weight") for line in (f / "gan" / "log.jsonl").open()]
        for f in (two, one)
    )
    assert mine[:2] == [None, None]
    assert mine[2:] == pytest.approx(theirs[2:], rel=1e-4)


def test_contrastive_loss_uses_captions_of_both_processes(both):
    two, reports, one, alone = both
    assert [report["clip"] for report in reports] == [{"spread": 0.0, "step": 1, "samples": 6}] * 2
    assert alone["clip"]["step"] == 1
    mine, theirs = (read_checkpoint(newest_checkpoint(f / "clip" / "checkpoints"))[0] for f in (two, one))
    moved = 0
    for key, value in mine["dual_encoder.optimizer"].items():
        if key.endswith(":exp_avg"):
            # The mean gradient after one step is (1 - beta_1) times the gradient.
            gradient, expected = value / 0.1, theirs["dual_encoder.optimizer"][key] / 0.1
            rounding = 3e-6 * max(1.0, expected.abs().max().item())
            torch.testing.assert_close(gradient, expected, rtol=0, atol=rounding, msg=key)
            # Adam's first step is the sign of the gradient, which is arbitrary if the gradient is only rounding error.
            sure, name = expected.abs() > 1e-4, key.removesuffix(":exp_avg")
            weights = (group["dual_encoder"][name][sure] for group in (mine, theirs))
            torch.testing.assert_close(*weights, rtol=0, atol=1e-6, msg=name)
            moved += int(sure.sum())
    assert moved > 1000
    for name in ("loss", "in_batch_precision"):
        logged = [json.loads((f / "clip" / "log.jsonl").read_text())[f"dual_encoder/{name}"] for f in (two, one)]
        assert logged[0] == pytest.approx(logged[1], abs=1e-5)


def test_time_limit_stops_all_processes_at_the_same_step(both):
    _, reports, _, _ = both
    steps = {report["minutes"]["step"] for report in reports}
    assert len(steps) == 1
    assert 0 < steps.pop() < 100
    for report in reports:
        assert report["minutes"]["resumed"] == report["minutes"]["step"]
        assert report["minutes"]["spread"] == 0.0


@pytest.mark.parametrize(("scenario", "named"), [("data", "batch's 'x'"), ("weight", "weight 'network.0.weight'")])
def test_nan_on_one_process_stops_both_before_the_step(both, scenario, named):
    two, reports, _, _ = both
    assert named in reports[1][scenario]["stopped"]
    assert "another process" in reports[0][scenario]["stopped"]
    for report in reports:
        assert "at step 4" in report[scenario]["stopped"]
        assert report[scenario]["step"] == 4
    path = newest_checkpoint(two / scenario / "checkpoints")
    assert path.name == "step-00000003"
    assert all(t.isfinite().all() for group in read_checkpoint(path)[0].values() for t in group.values())


def test_one_process_encodes_and_the_other_reads_the_cache(both):
    two, reports, _, _ = both
    assert [report["cache"]["encoded"] for report in reports] == [1, 0]
    assert all(report["cache"]["right"] and report["cache"]["kept"] for report in reports)
    assert len(list((two / "cache").iterdir())) == 2


def test_processes_that_read_different_images_are_refused(both):
    _, reports, _, _ = both
    for report in reports:
        assert report["images"]["count"] == 8
        assert "the processes can read different images" in report["images"]["refused"]


@pytest.mark.parametrize("scenario", ["signal", "last"])
def test_signal_to_one_process_stops_both_with_a_checkpoint(both, scenario):
    """Also in the last step."""
    two, reports, _, _ = both
    assert all(report[scenario]["interrupted"] for report in reports)
    assert reports[0][scenario]["step"] == reports[1][scenario]["step"] == 5
    assert newest_checkpoint(two / scenario / "checkpoints").name == "step-00000005"


def test_long_wait_for_another_process_is_logged_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(processes, "_LONG", -1.0)
    turns = iter(range(5))
    monkeypatch.setattr(processes.time, "sleep", lambda _: next(turns) < 4 or (tmp_path / "shard").touch())
    processes.wait_for(tmp_path / "shard")
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for {tmp_path / 'shard'}, which another process writes (on storage that all machines share)."
    ]
