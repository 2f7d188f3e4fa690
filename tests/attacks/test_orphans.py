"""The next run that writes to a folder removes the partial files of a killed process, and nothing else."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato import partial_files
from sfumato.files import write_bytes
from sfumato.partial_files import remove_partial

ROOT = Path(__file__).resolve().parents[2]
WRITER = """if True:
    import os, sys, time
    from sfumato.files import write_bytes
    def wait(*names):
        print("written", flush=True)
        time.sleep(600)
    os.replace = wait
    write_bytes(sys.argv[1], b"new")
"""


@pytest.fixture(autouse=True)
def _first_run(monkeypatch):
    """Each test starts like a process that has not yet written to any folder."""
    monkeypatch.setattr(partial_files, "_swept", set())


def writer(path):
    """A process that has written a partial file completely but not yet renamed it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], env=environment, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    return process


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_partial_files_of_killed_processes_are_removed(tmp_path):
    with writer(tmp_path / "a") as living, writer(tmp_path / "b") as killed:
        assert len(names(tmp_path)) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        write_bytes(tmp_path / "c", b"new")
        left = names(tmp_path)
        assert len(left) == 2
        assert left[1] == "c"
        living.send_signal(signal.SIGKILL)
        living.wait()
        write_bytes(tmp_path / "d", b"new")
        assert names(tmp_path) == [left[0], "c", "d"]  # a process checks each folder only once
    remove_partial(tmp_path)
    assert names(tmp_path) == ["c", "d"]


def test_partial_files_of_other_machines_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(partial_files, "_writer", lambda: "machine1.kernel01")
    kept = [".sfumato-machine2.kernel02-0.partial", ".sfumato-x.partial.png", "sfumato-machine1.kernel01-0.partial"]
    gone = [f".sfumato-{who}-0.partial" for who in ("machine1.kernel01", "machine1.kernel00", "machine0.kernel01")]
    for name in (*kept, *gone, ".sfumato-0123.partial"):
        (tmp_path / name).write_bytes(b"half")
    write_bytes(tmp_path / "out", b"new")
    assert names(tmp_path) == sorted([*kept, "out"])


def test_pipes_links_and_folders_are_kept(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep me")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".sfumato-1.partial").symlink_to(victim)
    (tmp_path / "in" / ".sfumato-2.partial").mkdir()
    os.mkfifo(tmp_path / "in" / ".sfumato-3.partial")
    write_bytes(tmp_path / "in" / "out", b"new")
    assert len(names(tmp_path / "in")) == 4
    assert victim.read_bytes() == b"keep me"


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    (tmp_path / ".sfumato-0.partial").write_bytes(b"half")

    def flock(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    write_bytes(tmp_path / "out", b"new")
    assert names(tmp_path) == [".sfumato-0.partial", "out"]


def test_partial_file_removed_by_another_process_is_rewritten(tmp_path, monkeypatch):
    locked, taken = partial_files.hold, []

    def hold(descriptor):
        if not taken:  # another process removes the file between its creation and its lock
            (left,) = tmp_path.glob(".sfumato-*.partial")
            left.unlink()
            taken.append(left)
        return locked(descriptor)

    monkeypatch.setattr(partial_files, "hold", hold)
    write_bytes(tmp_path / "out", b"new")
    assert taken
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"new"
