"""Ctrl-C and SIGTERM, once or twice, end commands within three seconds and leave no partial files."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sfumato import watchdog
from sfumato.cli import main
from sfumato.errors import BadInput
from sfumato.metrics import Evaluator
from sfumato.train import checkpoint
from tests.bench import small
from tests.bench.conftest import small_images  # noqa: F401
from tests.cli.forked import Forked
from tests.cli.test_bench import ROWS
from tests.cli.test_train import checkpoints, recipe  # noqa: F401
from tests.data import fake
from tests.metrics.test_text import save_clip
from tests.tiny import tiny_image

pytestmark = pytest.mark.slow

SIGNALS = {
    "SIGINT": (signal.SIGINT,),
    "SIGINT twice": (signal.SIGINT, signal.SIGINT),
    "SIGTERM": (signal.SIGTERM,),
    "SIGTERM twice": (signal.SIGTERM, signal.SIGTERM),
}
PROMPTS = ("--from", "red cat", "--to", "green cat")
LONG = ("--steps", 900)
#: The arguments of each command, and a text that its stderr contains while it is running.
WORK = {
    "invert": (("invert", "photo.png", "--from", "red cat", "-o", "out.safetensors", *LONG), "invert 2/"),
    "edit": (("edit", "photo.png", *PROMPTS, "-o", "out.png", "--steps", 60), "edit 2/"),
    "generate": (("generate", "red cat", "-o", "out.png", *LONG), "generate 2/"),
    "interpolate": (
        ("interpolate", "photo.png", "other.png", "--from", "red cat", "green cat", "-o", "out", *LONG),
        "/",
    ),
    "sweep": (
        ("sweep", "photo.png", *PROMPTS, "-o", "out", "--clip", "clip", "--steps", 9, "--grid", "skip=1,2,3"),
        "setting 1/",
    ),
    "directions": (("directions", "find", "-o", "out.safetensors", "-n", 3, "--samples", 500, "--steps", 9), "/"),
    "bench": (("bench", "piebench", "--data", "pie", "--rows", "rows.toml", "--clip", "clip", "--out", "out"), "/"),
}


@pytest.fixture
def commands(folder, tiny_sd_folder):
    """A folder with the inputs of the commands of `WORK`."""
    tiny_image(30, 22, seed=1).save(folder / "other.png")
    small.layout(folder / "pie")
    (folder / "rows.toml").write_text(ROWS.replace("steps = 3", "steps = 60"))
    (folder / "clip").mkdir()
    save_clip(folder / "clip")
    return folder


def results(folder):
    """Output files and partially written files."""
    return {path for path in folder.rglob("*") if path.name.startswith("out") or path.name.endswith(".partial")}


def sentences(lines):
    """The lines of stderr about the end of the command."""
    said = [line for line in lines if line.startswith("sfumato: ") or "Error" in line or "Traceback" in line]
    return [line for line in said if "settings are in" not in line]  # a sweep keeps its finished edits


def ends_well(ended, numbers, *, within=3.0):
    """Check the exit code, the single message, and the time."""
    assert ended.code == 128 + numbers[0], ended.lines
    assert ended.seconds < within
    assert len(sentences(ended.lines)) == 1, ended.lines
    assert ended.lines[-1].startswith("sfumato: "), ended.lines


@pytest.mark.parametrize("numbers", [SIGNALS["SIGINT"], SIGNALS["SIGTERM twice"]], ids=["once", "twice"])
@pytest.mark.parametrize("name", list(WORK))
def test_signals_end_a_command(commands, tiny_sd_folder, name, numbers):
    words, line = WORK[name]
    before = results(commands)
    run = Forked((*words, "--model", tiny_sd_folder), commands)
    run.wait_for_line(line)
    ends_well(run.end(*numbers), numbers)
    left = results(commands) - before
    assert not any(path.name.endswith(".partial") for path in left)
    assert name in ("bench", "sweep") or not any(path.is_file() for path in left), left


#: The shutdown of the interpreter takes a second after the end of the command.
CLEARING = """
import os, sys, time
from sfumato.cli import main
from sfumato.errors import BadInput
class Slow:
    def __del__(self, write=os.write, sleep=time.sleep):
        write(2, b"clearing"); sleep(1)
kept = Slow()
sys.argv = ["sfumato", "--version"]
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_during_interpreter_shutdown_are_ignored(number):
    run = subprocess.Popen([sys.executable, "-c", CLEARING], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert run.stderr.read(8) == b"clearing"
    run.send_signal(number)
    assert (run.wait(), run.stderr.read()) == (0, b"")


def long_call():
    """Replace `Evaluator.load` with one torch operation that takes many seconds."""

    def multiply(*given, **options):
        wide = torch.ones(6000, 6000, dtype=torch.float64)
        print("begun", file=sys.stderr)
        wide @ wide

    Evaluator.load = multiply


@pytest.mark.parametrize("numbers", SIGNALS.values(), ids=SIGNALS)
def test_signals_end_a_long_library_call(commands, numbers):
    run = Forked(("metrics", "photo.png", "other.png", *PROMPTS, "--clip", "clip"), commands, long_call)
    run.wait_for_line("begun")
    time.sleep(0.3)
    ended = run.end(*numbers)
    ends_well(ended, numbers)
    assert "during a long operation" in ended.lines[-1], "the call was not long enough to show anything"


@pytest.fixture
def drawings(folder):
    """The command that builds a small corpus of large images."""
    fake.iconify(folder / "cache", "noto", fake.many(200))
    return ("data", "emoji", "--out", "out", "--cache", "cache", "--styles", "noto", "--size", 1024)


def children(pid):
    """Process ids of the children of a process, of their children, and so on."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(each for child in found for each in children(child))]


def alive(pid):
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for children in /proc")
@pytest.mark.parametrize("numbers", [*SIGNALS.values(), (signal.SIGKILL,)], ids=[*SIGNALS, "SIGKILL"])
def test_worker_processes_end_with_the_command(folder, drawings, numbers):
    run = Forked(drawings, folder)
    run.wait_for(lambda: any((folder / "out").rglob("*.png")))
    workers = children(run.pid)
    assert len(workers) >= 2
    ended = run.end(*numbers)
    if numbers[0] != signal.SIGKILL:
        ends_well(ended, numbers)
        assert not list(folder.rglob("*.partial"))
    until = time.monotonic() + 5
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not [worker for worker in workers if alive(worker)]
    assert not (folder / "out" / "build.json").exists()


TRAIN = ("train", "autoencoder", "recipe.toml", "--out", "run", "--device", "cpu")


@pytest.mark.parametrize("numbers", SIGNALS.values(), ids=SIGNALS)
def test_signals_end_training_with_a_checkpoint(folder, recipe, numbers):  # noqa: F811
    recipe(steps=1_000_000)
    run = Forked(TRAIN, folder)
    run.wait_for_line("step 4 ")
    ends_well(run.end(*numbers), numbers)
    assert len(checkpoints(folder / "run")) == 1


def slow_checkpoints():
    """Make writing a checkpoint slower than the grace period of the watchdog, and print a line when it begins."""
    watchdog.GRACE = 0.5
    flush = checkpoint.flush

    def slowly(path):
        if path.name.startswith(".writing-"):
            print("writing", file=sys.stderr)
            time.sleep(3.0)
        flush(path)

    checkpoint.flush = slowly


def test_slow_checkpoint_is_completed_after_a_signal(folder, recipe):  # noqa: F811
    recipe(steps=1_000_000)
    run = Forked(TRAIN, folder, slow_checkpoints)
    run.wait_for_line("step 4 ")
    ended = run.end(signal.SIGINT)
    ends_well(ended, (signal.SIGINT,), within=10.0)
    assert ended.seconds > 3.0
    assert len(checkpoints(folder / "run")) == 1


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_leaves_a_complete_checkpoint(folder, recipe, second):  # noqa: F811
    recipe(steps=1_000_000, every=50)
    run = Forked(TRAIN, folder, slow_checkpoints)
    run.wait_for_line("writing")  # of step 50
    run.wait_for_line("step 52 ")
    ended = run.end(signal.SIGINT, second, apart=2.0)
    ends_well(ended, (signal.SIGINT,), within=10.0)
    found = checkpoints(folder / "run")
    assert found[0] == "step-00000050"
    assert (len(found) == 2) == (second == signal.SIGTERM), "Ctrl-C again does not wait, SIGTERM does"
    recipe(steps=int(found[-1].removeprefix("step-")) + 1)
    assert main([*map(str, TRAIN)]) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_converted_to_an_error_keeps_its_exit_code(monkeypatch, capsys, number, code):
    class Reading:
        def run(self, arguments):
            try:
                signal.raise_signal(number)
            except BaseException as error:
                raise BadInput("model/unet cannot be read.") from error

    monkeypatch.setattr("sfumato.cli.parse", lambda words: (Reading(), None))
    before = signal.signal(number, signal.SIG_DFL)  # a job in the background may ignore SIGINT
    try:
        assert main(["edit"]) == code
    finally:
        signal.signal(number, before)
    assert "cannot be read" not in capsys.readouterr().err
