"""Control characters in prompts and files are printed as escape sequences and never reach the terminal."""

import json
import re
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.cli import main
from sfumato.cli.outputs import remark
from sfumato.cli.progress import progress
from sfumato.cli.report import print_json, print_table, say
from sfumato.errors import BadInput, NonFinite
from sfumato.printing import one_line
from sfumato.shifts.text_direction import TextDirection

#: Title, colour, clear screen, backspace, all line breaks, C1 controls, right-to-left marks, a lone surrogate, DEL.
ODD = "a\x1b]0;pwn\x07\x1b[31m\x1b[2J\b\r\n\x0b\x85\x9b\u2028\u202e\u2066\ud800\x7f\0z"


def is_plain(text: str) -> bool:
    return all(c == "\n" or (c.isprintable() or c in "\u200d\ufe0f") for c in text)


def test_one_line_escapes_only_control_characters():
    assert is_plain(one_line(ODD))
    assert one_line(ODD).startswith(r"a\x1b]0;pwn\x07\x1b[31m")
    assert one_line(one_line(ODD)) == one_line(ODD)
    for text in ("red heart, 👩‍👩‍👧‍👦 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "שלום עולם", "مرحبا", "é ½ ﷺ", r"C:\new", ""):
        assert one_line(text) == text


def test_error_messages_are_one_printable_line():
    for error in (BadInput(f"The prompt {ODD} is odd."), NonFinite(ODD)):
        assert is_plain(str(error))
        assert "\n" not in str(error)


def test_print_functions_escape_control_characters(capsys):
    say(ODD)
    remark(ODD)
    print_table([["name", "value"], [ODD, "1"], ["short", ODD]])
    print_json({"a": ODD, ODD: [ODD]})
    with progress() as show:
        show.last = -100.0
        show(1, 2, ODD)
    out, err = capsys.readouterr()
    assert is_plain(out)
    assert is_plain(err)
    assert out.count(r"\x1b[31m") == 3
    assert err.count(r"\x1b[31m") == 2
    assert json.loads(out[out.index("{") :]) == {"a": ODD, ODD: [ODD]}


@pytest.mark.parametrize(
    "command",
    [["edit", ODD, "--to", "a", "-o", "o.png"], ["recipe", "x", f"--{ODD}"], [ODD], ["bench", ODD, "--out", "x"]],
)
def test_commands_print_no_control_characters(capsys, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word.replace("\0", "") for word in command]
    assert main(words) == 2
    assert main([*words, "--debug"]) == 2
    out, err = capsys.readouterr()
    assert is_plain(out + err)
    assert "\\x1b" in err


def test_texts_from_files_are_printed_without_control_characters(capsys, tmp_path):
    path = tmp_path / "d.safetensors"
    TextDirection(torch.zeros(2, 3), None, ODD[:20], ("\x1b[31m\nx", "a"), ("\u202eb", "c")).save(path)
    assert main(["directions", "show", str(path)]) == 0
    out, err = capsys.readouterr()
    assert is_plain(out + err)
    assert r"\x1b[31m\nx" in out


def test_progress_bar_accepts_text_with_markup(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress() as show:
        show(1, 2, "a row called [/red] [bold]")
    assert "[/red] [bold]" in capsys.readouterr().err


def test_only_the_report_module_calls_print():
    folder = Path(sfumato.__file__).parent / "cli"
    calls = re.compile(r"(?<![\w.])print\(")
    printing = [path.name for path in folder.rglob("*.py") if calls.search(path.read_text(encoding="utf-8"))]
    assert printing == ["report.py"]
