"""Headers of weight files are read again only after a change."""

import os

import pytest
import torch
from safetensors.torch import save_file

from sfumato import kept_files
from sfumato.errors import BadInput
from sfumato.networks import weights
from sfumato.networks.weights import read_shapes


@pytest.fixture
def reads(monkeypatch):
    """The paths of the files whose headers are read; files are treated as unchanged right after they are written."""
    read, check_header = [], weights.check_header
    monkeypatch.setattr(weights, "check_header", lambda path, *rest: read.append(path) or check_header(path, *rest))
    monkeypatch.setattr(kept_files, "SETTLED", 0)
    return read


def test_header_of_an_unchanged_file_is_read_once(tmp_path, reads):
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.zeros(2, 3)}, path)
    read_shapes(path, tmp_path)["other"] = ()  # what a caller does with the shapes does not change the next ones
    assert read_shapes(path, tmp_path) == {"w": (2, 3)}
    assert reads == [path]


def test_header_of_a_changed_file_is_read_again(tmp_path, reads):
    path = tmp_path / "a.safetensors"
    for shape in ((2, 3), (3, 2)):
        save_file({"w": torch.zeros(shape)}, path)
        os.utime(path, (0, len(reads)))
        assert read_shapes(path, tmp_path) == {"w": shape}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match="is cut short"):
        read_shapes(path, tmp_path)
    assert reads == [path] * 3


def test_links_out_of_the_folder_are_refused_for_kept_files_too(tmp_path, reads):
    (tmp_path / "model").mkdir()
    save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors")
    read_shapes(tmp_path / "a.safetensors", tmp_path)
    link = tmp_path / "model" / "a.safetensors"
    link.symlink_to(tmp_path / "a.safetensors")
    with pytest.raises(BadInput):
        read_shapes(link, tmp_path / "model")
