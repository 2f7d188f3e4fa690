"""Small text files are read again only after a change."""

import os

import pytest

from sfumato import kept_files, text_files
from sfumato.errors import BadInput
from sfumato.kept_files import KeptFiles
from sfumato.text_files import read_json

GIVE = "give a JSON file"


@pytest.fixture
def reads(monkeypatch):
    """The paths of the files that are opened, and no contents from earlier tests."""
    opened, read_bytes = [], text_files.read_bytes
    monkeypatch.setattr(text_files, "read_bytes", lambda path, *rest: opened.append(path) or read_bytes(path, *rest))
    monkeypatch.setattr(text_files, "_kept", KeptFiles(16))
    return opened


@pytest.fixture
def settled(monkeypatch):
    """Treat files as unchanged for long enough right after they were written."""
    monkeypatch.setattr(kept_files, "SETTLED", 0)


def test_unchanged_file_is_read_once(tmp_path, reads, settled):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1]}')
    first = read_json(path, GIVE)
    first["a"].append(2)  # what a caller does with the value does not change the next one
    assert read_json(path, GIVE) == {"a": [1]}
    assert reads == [path]


def test_changed_file_is_read_again(tmp_path, reads, settled):
    path = tmp_path / "a.json"
    path.write_text("[1]")
    assert read_json(path, GIVE) == [1]
    path.write_text("[2]")
    os.utime(path, (0, 0))
    assert read_json(path, GIVE) == [2]


def test_new_file_is_not_kept(tmp_path, reads):
    """A change within the resolution of the times of a file would not be found."""
    path = tmp_path / "a.json"
    path.write_text("[1]")
    read_json(path, GIVE)
    read_json(path, GIVE)
    assert reads == [path, path]


def test_size_limit_applies_to_kept_files(tmp_path, reads, settled):
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3]")
    assert read_json(path, GIVE) == [1, 2, 3]
    with pytest.raises(BadInput, match="larger than the limit of 4 bytes"):
        read_json(path, GIVE, 4)


def test_kept_contents_are_bounded(tmp_path, reads, settled):
    for n in range(40):
        (tmp_path / f"{n}.json").write_text(f"[{n}]")
        read_json(tmp_path / f"{n}.json", GIVE)
    assert len(text_files._kept) <= 16
    large = tmp_path / "large.json"
    large.write_text("[" + " " * (1 << 17) + "]")
    read_json(large, GIVE)
    read_json(large, GIVE)
    assert reads[-2:] == [large, large]
