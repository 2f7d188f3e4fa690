"""A new folder replaces the old one completely or not at all."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sfumato.errors import BadInput
from sfumato.files import replaced_folder
from tests.files.disk import largest_file
from tests.files.permissions import mode, umask


def old_model(folder):
    folder.mkdir()
    (folder / "weights").write_text("old")
    return folder


def test_new_folder_replaces_the_old_one(tmp_path):
    folder = old_model(tmp_path / "model")
    with replaced_folder(folder) as beside:
        (beside / "weights").write_text("new")
        assert (folder / "weights").read_text() == "old"
    assert (folder / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_error_keeps_the_old_folder(tmp_path):
    folder = old_model(tmp_path / "model")
    with pytest.raises(ZeroDivisionError), replaced_folder(folder):
        1 / 0  # noqa: B018
    assert (folder / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_kill_between_renames_keeps_the_old_folder(tmp_path):
    folder = old_model(tmp_path / "model")
    folder.rename(tmp_path / ".model.replaced")
    with pytest.raises(ZeroDivisionError), replaced_folder(folder):
        1 / 0  # noqa: B018
    assert (folder / "weights").read_text() == "old"


def test_failed_rename_restores_the_old_folder(tmp_path):
    folder = old_model(tmp_path / "model")
    with pytest.raises(FileNotFoundError), replaced_folder(folder) as beside:
        beside.rename(tmp_path / "elsewhere")
    assert (folder / "weights").read_text() == "old"


def test_safetensors_files_get_the_permissions_of_the_umask(tmp_path):
    with umask(0o027), replaced_folder(tmp_path / "model") as beside:
        (beside / "unet").mkdir()
        save_file({"w": torch.zeros(3)}, beside / "unet" / "weights.safetensors")
        assert mode(beside / "unet" / "weights.safetensors") == 0o600
    assert mode(tmp_path / "model") == 0o750
    assert mode(tmp_path / "model" / "unet" / "weights.safetensors") == 0o640


def test_files_are_flushed_before_the_rename(tmp_path, monkeypatch):
    done = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda f: (done.append(os.readlink(f"/proc/self/fd/{f}")), fsync(f)))
    monkeypatch.setattr(Path, "rename", lambda self, to: (done.append("renamed"), rename(self, to)))
    with replaced_folder(tmp_path / "model") as beside:
        (beside / "deep").mkdir()
        (beside / "deep" / "file").write_text("x")
    flushed = done[: done.index("renamed")]
    assert {Path(name).name for name in flushed} == {".model.writing", "deep", "file"}
    assert done[-1] == str(tmp_path)


def test_full_disk_is_explained_and_other_errors_propagate(tmp_path):
    folder = old_model(tmp_path / "model")
    with pytest.raises(BadInput, match=r"model cannot be written \(No space.*\): make room"), replaced_folder(folder):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), replaced_folder(folder):
        (tmp_path / "nothing here").read_bytes()
    assert (folder / "weights").read_text() == "old"


def test_full_disk_in_safetensors_is_explained_and_others_propagate(tmp_path):
    folder = old_model(tmp_path / "model")
    match = r"model cannot be written \(File too large\): make room"
    with largest_file(1000), pytest.raises(BadInput, match=match), replaced_folder(folder) as beside:
        save_file({"w": torch.zeros(1000)}, beside / "weights")
    (tmp_path / "broken").write_bytes(b"no header")
    with pytest.raises(SafetensorError, match="header"), replaced_folder(folder):
        load_file(tmp_path / "broken")
    assert (folder / "weights").read_text() == "old"
