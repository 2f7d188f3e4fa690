"""Fixtures that run commands in this process, in a temporary working folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sfumato.cli import main
from tests.tiny import tiny_image


@dataclass(frozen=True)
class Outcome:
    """Result of a command: exit code, stdout, stderr, and the names of the files that it created or changed."""

    code: int
    out: str
    err: str
    files: set[str]

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    def refused(self) -> str:
        """Check that the command rejected bad input with exit code 2, one line, and no files; returns the line."""
        assert self.code == 2, self.err
        assert self.out == ""
        assert self.err.startswith("sfumato: ")
        assert len(self.err.splitlines()) == 1, self.err
        assert "Traceback" not in self.err
        assert self.files == set()
        return self.err


Command = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working folder with one small image that is not square and whose sides are not multiples of 8 pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.delenv("SFUMATO_MODEL", raising=False)
    tiny_image(30, 22).save(tmp_path / "photo.png")
    return tmp_path


@pytest.fixture
def sfumato(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in `folder`: `sfumato("edit", "photo.png", ...)`."""

    def run(*words: object) -> Outcome:
        before = _state(folder)
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        after = _state(folder)
        changed = {name for name in after | before if after.get(name) != before.get(name)}
        return Outcome(code, out, err, changed)

    return run


def _state(folder: Path) -> dict[str, bytes]:
    files: Sequence[Path] = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def edit(sfumato: Command, tiny_sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run edits with a tiny default model."""
    monkeypatch.setenv("SFUMATO_MODEL", str(tiny_sd_folder))
    return lambda *words: sfumato("edit", *words)
