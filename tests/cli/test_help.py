"""Help and version: size of the texts, and the modules that printing them imports."""

import subprocess
import sys

import pytest

from sfumato import __version__
from sfumato.cli.commands import COMMANDS


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_one_screen_and_has_an_example(sfumato, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    run = sfumato(*command.split(), "--help")
    assert run.code == 0
    assert run.err == ""
    lines = run.out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    example = lines[lines.index("example:") + 1]
    assert "sfumato" in example


def test_help_fits_a_narrow_terminal(sfumato, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    options = sfumato("models", "--help").out.partition("options:")[2].partition("example:")[0]
    assert max(map(len, options.splitlines())) <= 60


@pytest.mark.parametrize("method", ["ddim", "native-ddpm"])
def test_help_of_edit_shows_the_parameters_of_the_method(sfumato, method):
    run = sfumato("edit", "--method", method, "--help")
    assert f"{method} (defaults" in run.out
    assert ("--eta" in run.out) == (method == "native-ddpm")


def test_no_command_shows_the_help(sfumato):
    assert sfumato().out == sfumato("--help").out


def test_version(sfumato):
    assert sfumato("--version").out == f"sfumato {__version__}\n"


def test_help_imports_no_large_library():
    script = (
        "import sys; from sfumato.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'rich', 'pyarrow'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: sfumato COMMAND")


def test_python_m_sfumato_runs_the_command():
    done = subprocess.run([sys.executable, "-m", "sfumato", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sfumato {__version__}\n", "")
