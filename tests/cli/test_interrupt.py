"""Ctrl-C, SIGTERM, SIGKILL during a write, a closed pipe, and errors that are not caused by bad input."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato import cli
from sfumato.cli import main, progress
from sfumato.errors import NonFinite

pytestmark = pytest.mark.slow

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def start(script: str, *words: object) -> "subprocess.Popen[str]":
    """Start a process that runs `script`, with words in sys.argv[1:]."""
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def hears_ctrl_c():
    """Python's own handler of SIGINT: a shell without job control starts background jobs with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_stops_an_edit_with_one_line(sfumato, tiny_sd_folder, monkeypatch, number, code):
    seen = []

    def show(self, done, total, text):
        seen.append(text)
        if text.startswith("edit 3/"):
            signal.raise_signal(number)

    monkeypatch.setattr(progress._Lines, "__call__", show)
    words = ("--from", "red", "--to", "green", "-o", "out.png", "--steps", 9, "--model", tiny_sd_folder)
    run = sfumato("edit", "photo.png", *words)
    assert run.code == code
    assert seen[-1].startswith("edit 3/")
    assert (run.out, run.files) == ("", set())
    assert len(run.err.splitlines()) == 1
    assert "no incomplete file" in run.err


def test_kill_while_writing_keeps_the_previous_file(folder, tiny_sd_folder):
    words = ["edit", "photo.png", "--from", "red", "--to", "green", "-o", "out.png", "--steps", "2"]
    words += ["--model", str(tiny_sd_folder)]
    assert main(words) == 0
    before = (folder / "out.png").read_bytes()
    script = """if True:
        import os, signal, sys
        from sfumato.cli import main
        os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
        main(sys.argv[1:])
    """
    process = start(script, *words, "--seed", 5)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert (folder / "out.png").read_bytes() == before
    assert main([*words, "--seed", "5"]) == 0
    assert (folder / "out.png").read_bytes() != before


def test_closed_pipe_prints_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "sfumato", "--help"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    complaint = process.stderr.read()
    process.wait(timeout=60)
    assert complaint == b""


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (NonFinite("step 3: z holds NaN."), 1, "sfumato: step 3: z holds NaN.\n"),
        (RuntimeError("something\nlong"), 1, "sfumato: RuntimeError: something (--debug shows the traceback).\n"),
        (MemoryError(), 1, "sfumato: there is not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            1,
            "sfumato: there is not enough memory",
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), 1, "sfumato: there is not enough memory"),
        (KeyboardInterrupt(), 130, "sfumato: stopped"),
    ],
)
def test_errors_print_one_line(sfumato, monkeypatch, error, code, sentence):
    from sfumato.cli import recipe

    def fail(arguments):
        raise error

    monkeypatch.setattr(recipe, "run", fail)
    run = sfumato("recipe", "photo.png")
    assert run.code == code
    assert run.err.startswith(sentence)
    assert len(run.err.splitlines()) == 1
    assert run.out == ""


def test_signal_handlers_are_restored(sfumato):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    sfumato("recipe", "photo.png")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_signal_while_reporting_an_error_is_ignored(sfumato, monkeypatch):
    from sfumato.cli import recipe

    def fail(arguments):
        raise NonFinite("step 3: z holds NaN.")

    def explain(error):
        signal.raise_signal(signal.SIGTERM)
        return explained(error)

    explained = cli._explain
    monkeypatch.setattr(recipe, "run", fail)
    monkeypatch.setattr(cli, "_explain", explain)
    run = sfumato("recipe", "photo.png")
    assert (run.code, run.err) == (1, "sfumato: step 3: z holds NaN.\n")
