"""Files are written atomically with the permissions of the umask; an error is one sentence."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sfumato.errors import BadInput
from sfumato.files import write_bytes, write_tensors, write_text
from sfumato.partial_files import remove_partial
from tests.files.disk import largest_file
from tests.files.permissions import mode, umask


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_permissions_follow_the_umask(tmp_path, mask):
    with umask(mask):
        write_bytes(tmp_path / "a", b"new")
        write_text(tmp_path / "b", "new")
        write_tensors(tmp_path / "c", {"x": torch.zeros(2)})
    assert {mode(tmp_path / name) for name in "abc"} == {0o666 & ~mask}


def test_text_and_tensors_round_trip(tmp_path):
    write_text(tmp_path / "text", "Äpfel\n")
    assert (tmp_path / "text").read_bytes() == "Äpfel\n".encode()
    x = torch.arange(24.0).reshape(2, 3, 4)
    write_tensors(tmp_path / "x", {"turned": x.transpose(0, 2), "part": x[:, 1:], "none": x[:0]}, {"key": "value"})
    back = load_file(tmp_path / "x")
    assert torch.equal(back["turned"], x.transpose(0, 2))
    assert torch.equal(back["part"], x[:, 1:])
    assert back["none"].shape == (0, 3, 4)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "inner" / "target")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "inner" / "target").read_bytes() == b"new"


def test_unusual_file_names_can_be_written(tmp_path):
    for name in (b"n" * 255, b"caf\xe9", b"-", b" \n"):
        write_bytes(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)), name)
    assert len(names(tmp_path)) == 4


def test_full_disk_error_keeps_the_old_file(tmp_path):
    write_bytes(tmp_path / "out", b"old")
    with largest_file(100_000):
        for write in (
            lambda path: write_bytes(path, bytes(200_000)),
            lambda path: write_tensors(path, {"x": torch.zeros(50_000)}),
        ):
            with pytest.raises(BadInput, match=r"/out cannot be written \(File too large\): make room there or choose"):
                write(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


REMEDIES = {
    errno.ENOSPC: "make room there or choose another place.",
    errno.EACCES: "check its permissions or choose another place.",
    errno.EROFS: "check its permissions or choose another place.",
    errno.EIO: "choose another place.",
}


@pytest.mark.parametrize("number", REMEDIES, ids=errno.errorcode.get)
def test_system_errors_suggest_a_remedy(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BadInput) as caught:
        write_bytes(tmp_path / "a\nb\x1b[0m", b"new")
    sentence = str(caught.value)
    assert sentence.startswith(f"{tmp_path}/a\\nb\\x1b[0m cannot be written ({os.strerror(number)}): ")
    assert sentence.endswith(REMEDIES[number])
    assert names(tmp_path) == []


def test_invalid_paths_are_rejected(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path, word in {
        tmp_path / "missing" / "out": "create its folder first",
        tmp_path / "file" / "out": "create its folder first",
        tmp_path / "folder": "choose another place",
        "nul\0byte": "choose another place",
        tmp_path / ("n" * 256): "choose another place",
    }.items():
        with pytest.raises(BadInput, match=word):
            write_bytes(path, b"new")
    assert names(tmp_path) == ["file", "folder"]


def test_interrupted_write_keeps_only_the_old_file(tmp_path, monkeypatch):
    write_bytes(tmp_path / "out", b"old")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


WRITER = """if True:
    import os, sys, time
    from sfumato.files import write_bytes
    def wait(*names):
        print("written", flush=True)
        time.sleep(60)
    os.replace = wait
    write_bytes(sys.argv[1], b"new")
"""


def test_only_partial_files_of_dead_processes_are_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    command = [sys.executable, "-c", WRITER, str(tmp_path / "deep" / "out")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "written\n"
        partial = names(tmp_path / "deep")
        remove_partial(tmp_path)
        assert names(tmp_path / "deep") == partial != []
        writer.send_signal(signal.SIGKILL)
    remove_partial(tmp_path)
    assert names(tmp_path / "deep") == []
