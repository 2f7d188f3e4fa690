"""Detects what loading an untrusted file must never do, even where the resulting error is caught."""

import io
import os
import pickle
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.errors import BadInput
from tests.attacks.malicious import MODULE, Bomb

SECONDS, MEGABYTES = 5.0, 1000
#: Maximum length of an error message in characters, without the path of the test's folder.
SENTENCE = 900


class _Answers(io.StringIO):
    """A standard input with "y" on every line, which must not be read."""

    def __init__(self, noticed: list[str]) -> None:
        super().__init__("y\n" * 100)
        self.noticed = noticed

    def readline(self, size: int | None = -1) -> str:
        self.noticed.append("standard input was read")
        return super().readline(-1 if size is None else size)


class Guard:
    """Sets up a malicious module, a folder outside the model folder, and patches that record forbidden calls."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.noticed = folder, []
        self.outside, work = folder / "outside", folder / "work"
        self.mark = folder / "mark"
        for each in (self.outside, work):
            each.mkdir()
        (self.outside / "pickle.bin").write_bytes(pickle.dumps(Bomb(self.mark)))
        for name in (MODULE, "xielu", "bitsandbytes"):
            (work / f"{name}.py").write_text(f"open({str(self.mark)!r}, 'w')\n")
        for name in (MODULE, "xielu"):  # in case an earlier test imported it
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.chdir(work)
        monkeypatch.syspath_prepend(str(work))
        monkeypatch.setattr(sys, "stdin", _Answers(self.noticed))
        for owner, name in (
            (torch, "load"),
            (pickle, "load"),
            (pickle, "loads"),
            (pickle, "Unpickler"),
            (torch.serialization, "load"),
            (subprocess, "Popen"),
            (os, "system"),
            (socket.socket, "connect"),
        ):
            monkeypatch.setattr(owner, name, self._never(f"{getattr(owner, '__name__', owner)}.{name}"))

    def __call__(self, open_it: Callable[[], Any]) -> str:
        """Call `open_it`; return the message of its BadInput, or "". Fails if anything forbidden happened."""
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        said = ""
        try:
            open_it()
        except BadInput as error:
            said = str(error)
            assert said.isprintable(), said
            assert 10 < len(said.replace(str(self.folder), "")) < SENTENCE, said
        took = time.process_time() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert not self.noticed, self.noticed
        assert not list(self.folder.rglob("mark")), "a module was imported, or a pickle opened"
        assert MODULE not in sys.modules
        assert took < SECONDS, f"{took:.1f} s"
        assert grown < MEGABYTES, f"{grown:.0f} MB"
        return said

    def _never(self, name: str) -> Callable[..., Any]:
        def noticed(*given: Any, **more: Any) -> Any:
            self.noticed.append(name)
            raise AssertionError(f"{name} was called")

        return noticed
