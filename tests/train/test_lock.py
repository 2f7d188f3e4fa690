"""Only one process at a time may train in a run's folder."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.errors import BadInput
from sfumato.train.lock import lock
from sfumato.train.start import start
from tests.train.toy import run_of

HOLDER = """if True:
    import sys, time
    from sfumato.partial_files import hold
    with open(sys.argv[1], "ab") as file:
        try:
            hold(file.fileno())
        except BlockingIOError:
            sys.exit(print("taken", flush=True))
        print("held", flush=True)
        time.sleep(60)
"""


def holder(folder):
    """Another process that locks the folder, or prints that it is already locked."""
    command = [sys.executable, "-c", HOLDER, str(folder / ".lock")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_folder_locked_by_another_process_is_refused(tmp_path):
    (tmp_path / "recipe.toml").write_text('kind = "autoencoder"\n[data]\nfolder = "nowhere"\n')
    with holder(tmp_path) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match=r"another process is training in .*own folder") as caught:
            run_of(tmp_path)
        assert "\n" not in str(caught.value)
        with pytest.raises(BadInput, match="another process is training"):
            start(tmp_path / "recipe.toml", tmp_path, device="cpu")
        other.kill()
    assert list(run_of(tmp_path, 2).steps())[-1].step == 2


def test_run_locks_its_folder_until_it_is_closed(tmp_path):
    run = run_of(tmp_path, 4)
    next(run.steps())
    again = run_of(tmp_path, 4)
    assert again.step == 1
    run.close()
    with holder(tmp_path) as other:
        assert other.stdout.readline() == "taken\n"
    again.close()
    with holder(tmp_path) as other:
        assert other.stdout.readline() == "held\n"
        other.kill()


def test_only_the_first_of_several_processes_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.train.lock.is_first", lambda: False)
    assert lock(tmp_path / "run") is None
    assert not (tmp_path / "run").exists()


def test_file_system_without_locks_is_accepted(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert lock(tmp_path) is not None


def test_path_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file/run cannot be written \(Not a directory\): choose another folder"):
        lock(tmp_path / "file" / "run")
