"""A run that is killed at random moments and resumed ends with exactly the result of an uninterrupted run."""

import json

import pytest

from sfumato.train.checkpoint import newest_checkpoint, valid_checkpoints
from tests.train.killed import many_lives

pytestmark = pytest.mark.slow


@pytest.mark.timeout(1800)
def test_run_killed_twenty_times_equals_an_uninterrupted_run(tmp_path):
    kills = 20
    report = many_lives(tmp_path, 0, kills)
    assert len(report["resumed"]) == kills
    assert report["resumed"] == sorted(report["resumed"]), "a resumed run went back behind a complete checkpoint"
    assert len(set(report["resumed"])) > kills // 4, "the kills did not reach different steps"
    killed, whole = (newest_checkpoint(tmp_path / name / "checkpoints") for name in ("killed", "whole"))
    assert killed.name == whole.name == f"step-{report['target']:08d}"
    assert report["target"] > 40, "the kills did not reach the second phase"
    files = sorted(p.name for p in whole.iterdir())
    assert files == sorted(p.name for p in killed.iterdir())
    assert {"first.safetensors", "first.ema.safetensors", "second.optimizer.safetensors"} <= set(files)
    for name in files:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list((tmp_path / "killed" / "checkpoints").glob(".writing-*"))
    assert len(valid_checkpoints(tmp_path / "killed" / "checkpoints")) == 2
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "log.jsonl").open()]
    assert steps == list(range(1, report["target"] + 1)), "a resumed run must log every step once"
