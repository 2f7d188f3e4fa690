"""Arguments and files are checked before torch is imported; every command runs in a fork of one small process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.train.registry import MODULES, TASKS
from tests.tiny import tiny_image

EDIT = ("edit", "photo.png", "--to", "green", "-o", "out.png")
#: Command line -> exit code.
COMMANDS = {
    ("--help",): 0,
    ("edit", "--help"): 0,
    ("edit", "--help", "--method", "self-guidance"): 0,
    ("edit", "--help", "--method", "prompt-to-prompt", "--method", "pix2pix-zero"): 0,
    ("sweep", "--help"): 0,
    ("invert", "--help"): 0,
    ("generate", "--help"): 0,
    ("directions", "apply", "--help"): 0,
    ("train", "--help"): 0,
    ("methods",): 0,
    ("methods", "diffuseit"): 0,
    ("models",): 0,
    ("edit", "nosuch.png", "--to", "green", "-o", "out.png"): 2,
    ("edit", "nosuch.safetensors", "--to", "green", "-o", "out.png"): 2,
    (*EDIT, "--method", "nosuch"): 2,
    (*EDIT, "--nosuch", "1"): 2,
    (*EDIT, "--steps", "0"): 2,
    (*EDIT, "--mask", "nosuch.png"): 2,
    (*EDIT, "--mask-words", "a,,b"): 2,
    (*EDIT, "--model", "nosuch"): 2,
    (*EDIT, "--dtype", "int8"): 2,
    (*EDIT, "--recipe", "photo.png"): 2,
    (*EDIT, "--preset", "nosuch"): 2,
    (*EDIT, "--method", "prompt-to-prompt", "--reweight", "red"): 2,
    (*EDIT, "--method", "self-guidance", "--place", "fox"): 2,
    (*EDIT, "--method", "pix2pix-zero", "--direction-file", "nosuch.safetensors"): 2,
    ("edit", "photo.png", "--to", "green", "-o", "photo.png"): 2,
    ("edit", "photo.png", "photo.png", "--to", "green", "--out-dir", "out"): 2,
    ("sweep", "nosuch.png", "--to", "green", "--grid", "skip=1,2", "-o", "out"): 2,
    ("invert", "nosuch.png", "-o", "out.safetensors"): 2,
    ("generate", "red", "-o", "out.png", "--model", "nosuch"): 2,
    ("directions", "apply", "nosuch.png", "nosuch.safetensors", "-o", "out.png"): 2,
    ("directions", "find", "-o", "out.png"): 2,
    ("interpolate", "nosuch.png", "photo.png", "-o", "out"): 2,
    ("metrics", "nosuch.png", "photo.png"): 2,
    ("train", "autoencoder", "nosuch.toml", "--out", "run"): 2,
    ("bench", "pairs", "--data", "nosuch", "--out", "run"): 2,
    ("demo", "--only", "nosuch"): 2,
}

#: Runs each command line of argv[2:] in a fork, with stdout discarded; prints what went wrong.
SCRIPT = """
import ast, os, sys
sys.path.insert(0, sys.argv[1])
import sfumato.cli
for line in sys.argv[2:]:
    words, wanted = ast.literal_eval(line)
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = sfumato.cli.main(words)
        heavy = [name for name in ("torch", "diffusers", "transformers") if name in sys.modules]
        if code != wanted or heavy:
            print(words, "ended with", code, "and imported", heavy, file=sys.stderr)
        os._exit(bool(code != wanted or heavy))
    if os.waitpid(child, 0)[1]:
        print("FAILED", words)
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Output of the process: the command lines that import a large library or end with an unexpected exit code."""
    folder = tmp_path_factory.mktemp("startup")
    tiny_image(30, 22).save(folder / "photo.png")
    lines = [repr((list(words), code)) for words, code in COMMANDS.items()]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[2]), *lines],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "XDG_CONFIG_HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["photo.png"]
    return done


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_large_library_is_imported(failed, words):
    assert f"FAILED {list(words)}" not in failed.stdout, failed.stderr


def test_task_modules_match_the_table():
    assert {name: TASKS[name].__module__ for name in TASKS if name in MODULES} == MODULES
    assert [name for name in TASKS if TASKS[name].__module__.startswith("sfumato.train")] == list(MODULES)
