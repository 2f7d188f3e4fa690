"""Checkpoints: which folders are valid, recovery after a kill, and full disks."""

import json
import logging
import os

import pytest
import torch

import sfumato.train.checkpoint as checkpoint
from sfumato.errors import BadInput
from sfumato.train.checkpoint import (
    MARKER,
    newest_checkpoint,
    newest_state,
    read_checkpoint,
    read_newest,
    valid_checkpoints,
    write_checkpoint,
)
from tests.attacks.headers import many, with_header
from tests.attacks.limits import at_once
from tests.files.disk import largest_file

STATE = {"kind": "toy", "samples": 4}


def write(folder, step, keep=2, value=None):
    tensors = {"network": {"w": torch.full((3,), float(step if value is None else value))}, "empty": {}}
    return write_checkpoint(folder, step, tensors, STATE, keep)


def test_round_trip_and_at_least_two_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        write(tmp_path, step)
    assert [p.name for p in valid_checkpoints(tmp_path)] == ["step-00000003", "step-00000010"]
    tensors, state = read_checkpoint(newest_checkpoint(tmp_path))
    assert state == {"step": 10, **STATE}
    assert tensors["empty"] == {}
    assert torch.equal(tensors["network"]["w"], torch.full((3,), 10.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000010"]


def steps(folder):
    return [int(path.name.removeprefix("step-")) for path in valid_checkpoints(folder)]


@pytest.mark.parametrize("keep", [1, 0, -3])
def test_keeping_fewer_than_two_is_refused(tmp_path, keep):
    with pytest.raises(BadInput, match="at least 2"):
        write(tmp_path, 1, keep)
    assert not list(tmp_path.iterdir())


def test_missing_folder_has_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path / "none") is None
    assert read_newest(tmp_path / "none") is None


def test_folder_without_marker_is_ignored_and_replaced(tmp_path):
    write(tmp_path, 1)
    (write(tmp_path, 2) / MARKER).unlink()
    (tmp_path / "step-00000002" / "network.safetensors").write_bytes(b"half")
    assert newest_checkpoint(tmp_path).name == "step-00000001"
    write(tmp_path, 2)
    assert torch.equal(read_checkpoint(newest_checkpoint(tmp_path))[0]["network"]["w"], torch.full((3,), 2.0))


def test_empty_marker_is_valid(tmp_path):
    path = write(tmp_path, 1)
    assert (path / MARKER).read_bytes() == b""
    assert newest_checkpoint(tmp_path) == path


@pytest.mark.parametrize("name", [".writing-00000007", "step-00000007"])
def test_leftovers_of_a_kill_are_removed(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "network.safetensors").write_bytes(b"half")
    write(tmp_path, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000008"]


@pytest.mark.parametrize("moment", ["rename", "mkdir", "write_text"])
def test_kill_while_writing_keeps_the_previous_checkpoint(tmp_path, monkeypatch, moment):
    write(tmp_path, 1)
    original = getattr(checkpoint.Path, moment)

    def killed(self, *args, **kwargs):
        if moment == "write_text" and self.name != MARKER:
            return original(self, *args, **kwargs)
        if moment == "mkdir" and not self.name.startswith(".writing"):
            return original(self, *args, **kwargs)
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Path, moment, killed)
        with pytest.raises(SystemExit):
            write(tmp_path, 2)
    assert newest_checkpoint(tmp_path).name == "step-00000001"
    write(tmp_path, 2)
    assert newest_checkpoint(tmp_path).name == "step-00000002"


def test_kill_while_removing_leaves_no_invalid_checkpoint(tmp_path, monkeypatch):
    write(tmp_path, 1)
    write(tmp_path, 2)

    def killed(path):
        (path / "network.safetensors").unlink()
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", killed)
        with pytest.raises(SystemExit):
            write(tmp_path, 3)
    assert [p.name for p in valid_checkpoints(tmp_path)] == ["step-00000002", "step-00000003"]


DAMAGE = {
    "truncated": lambda path: (path / "network.safetensors").write_bytes(
        (path / "network.safetensors").read_bytes()[:-5]
    ),
    "empty": lambda path: (path / "network.safetensors").write_bytes(b""),
    "missing": lambda path: (path / "network.safetensors").unlink(),
    "state": lambda path: (path / "state.json").write_text('{"step": '),
    "no state": lambda path: (path / "state.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, caplog, damage):
    write(tmp_path, 1)
    damage(write(tmp_path, 2))
    with caplog.at_level(logging.WARNING):
        path, (_, state) = read_newest(tmp_path)
    assert (path.name, state["step"]) == ("step-00000001", 1)
    assert "step-00000002 is damaged" in caplog.text
    damage(tmp_path / "step-00000001")
    with pytest.raises(BadInput, match="can be read"):
        read_newest(tmp_path)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_checkpoint_does_not_displace_readable_ones(tmp_path, damage):
    for step in (1, 2, 4, 6):
        write(tmp_path, step, keep=4)
    for step in (4, 6):
        damage(tmp_path / f"step-{step:08d}")
    assert read_newest(tmp_path)[0].name == "step-00000002"
    write(tmp_path, 3)
    assert steps(tmp_path) == [2, 3, 4, 6]
    write(tmp_path, 5)
    assert steps(tmp_path) == [3, 4, 5, 6]
    write(tmp_path, 6)
    assert steps(tmp_path) == [5, 6]


def test_checkpoints_after_the_current_step_are_not_counted(tmp_path):
    for step in (1, 2, 8, 9):
        write(tmp_path, step, keep=4)
    write(tmp_path, 3)
    assert steps(tmp_path) == [2, 3, 8, 9]


def test_full_disk_is_reported_and_keeps_earlier_checkpoints(tmp_path):
    write(tmp_path, 1)
    big = {"network": {"w": torch.zeros(50_000)}}
    with (
        largest_file(100_000),
        pytest.raises(BadInput, match=r"network.safetensors cannot .*File too large\): make room"),
    ):
        write_checkpoint(tmp_path, 2, big, STATE)
    assert steps(tmp_path) == [1]
    write_checkpoint(tmp_path, 2, big, STATE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("moment", ["mkdir", "rename"])
def test_full_disk_at_mkdir_or_rename_is_reported(tmp_path, monkeypatch, moment):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Path, moment, full)
        with pytest.raises(BadInput, match=r"step-00000001 cannot be written \(No space left on device\): make room"):
            write(tmp_path, 1)


def test_checkpoints_without_a_list_of_files_are_read(tmp_path):
    path = write(tmp_path, 4)
    (path / "state.json").write_text(json.dumps({"step": 4, **STATE}))
    tensors, state = read_checkpoint(path)
    assert set(tensors) == {"network", "empty"}
    assert state["step"] == 4


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def says(**changes):
    """A function that replaces the state by one with these changes."""
    return lambda path: (path / "state.json").write_text(json.dumps({"step": 2, **STATE} | changes))


def out_of_the_folder(path):
    """Replace the tensors by a link to a file outside the folder."""
    outside = path.parent.parent / "outside.safetensors"
    (path / "network.safetensors").rename(outside)
    (path / "network.safetensors").symlink_to(outside)


HOSTILE = {
    "pipe": lambda path: pipe(path / "network.safetensors"),
    "pipe as state": lambda path: pipe(path / "state.json"),
    "deep state": lambda path: (path / "state.json").write_text("[" * 100_000 + "]" * 100_000),
    "5000 digits": lambda path: (path / "state.json").write_text(f'{{"step": 2, "samples": {"1" * 5000}}}'),
    "4000 digits": lambda path: (path / "state.json").write_text(f'{{"step": 2, "samples": {"1" * 4000}}}'),
    "tensors without end": lambda path: with_header(path / "network.safetensors", many(20_001)),
    "header without end": lambda path: with_header(path / "network.safetensors", b"{}", 1 << 40),
    "out by a link": out_of_the_folder,
    "out by a name": says(files=["network", "../../outside"]),
    "no name": says(files=["net\0work"]),
    "no list": says(files=3),
    "no samples": says(samples=None),
    "another step": says(step=7),
    "no table": lambda path: (path / "state.json").write_text("[]"),
    "bound to a list": says(bound_to=[]),
    "precision of a list": says(precision_of=[]),
    "ema steps to a text": says(ema_steps={"network": "x"}),
}


@pytest.mark.parametrize("spoil", HOSTILE.values(), ids=HOSTILE.keys())
def test_malicious_checkpoint_is_treated_as_damaged(tmp_path, caplog, spoil):
    folder = tmp_path / "checkpoints"
    write(folder, 1)
    spoil(write(folder, 2))
    (tmp_path / "outside.safetensors").touch()
    with at_once():
        assert newest_state(folder)["step"] in (1, 2)
        assert read_newest(folder)[0].name == "step-00000001"
        assert "step-00000002 is damaged" in caplog.text
        write(folder, 3)
        assert steps(folder) == [1, 2, 3], "it takes the place of none"


def test_links_among_checkpoints_are_removed_without_their_targets(tmp_path):
    outside = write(tmp_path / "other", 1)
    (tmp_path / "checkpoints").mkdir()
    for name in ("step-00000001", ".writing-00000002", "step-00000003"):
        (tmp_path / "checkpoints" / name).symlink_to(outside)
    for step in (2, 3, 4):
        write(tmp_path / "checkpoints", step)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000003", "step-00000004"]
    assert steps(tmp_path / "other") == [1]
    assert read_checkpoint(outside)
