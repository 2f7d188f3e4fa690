"""The commands and the Python of README.md and docs/: all are valid, and those of the pages in `RUN` run in order.

A block under `<!-- needs: ... -->` needs files or a model of the reader's: it is checked, but not run. The pages run
with a tiny model in place of the shipped one.
"""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from sfumato.cli import main
from sfumato.cli.commands import parse
from sfumato.methods.params import options_of
from sfumato.methods.registry import METHODS
from sfumato.metrics.evaluator import SHIPPED
from sfumato.models import bundled
from tests.tiny import tiny_picture

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
RUN = ("README.md", "docs/editing.md", "docs/directions.md", "docs/coming-from.md")
BLOCK = re.compile(r"^```(\w*)\n((?:[^\n]*\n)*?)```$|(?<=\n\n)((?:^ {4}[^\n]*\n|^\n(?= {4}))+)", re.MULTILINE)
NEEDS = re.compile(r"<!-- needs: ([^>]+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A block of a page: its language, text and line, and what of the reader's it needs, "" for nothing."""

    language: str
    text: str
    line: int
    needs: str

    @property
    def python(self) -> bool:
        return self.language == "python"

    @property
    def file(self) -> str:
        """The name of the TOML file that the block shows, "" for none."""
        name = re.match(r"# (\S+\.toml)\n", self.text) if self.language == "toml" else None
        return name[1] if name else ""

    @property
    def commands(self) -> list[list[str]]:
        """The command lines of sfumato."""
        if self.language not in ("", "bash", "sh"):
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line, comments=True) for line in lines if line.startswith("sfumato ")]
        return [each[1:] for each in words]


def blocks(page):
    text, found = PAGES[page].read_text(), []
    for match in BLOCK.finditer(text):
        before, fenced = text[: match.start()], match[3] is None
        body = match[2] if fenced else re.sub("^ {4}", "", match[3], flags=re.MULTILINE)
        if body.strip():
            needs = NEEDS.search(before)
            found.append(Block(match[1] or "", body, before.count("\n") + 1, needs[1] if needs else ""))
    return found


@pytest.fixture
def reader(tmp_path, monkeypatch, tiny_sd_folder):
    """The folder of a reader: a clone, in which the shipped model is a tiny one of few steps."""
    (tmp_path / "sfumato").symlink_to(ROOT / "sfumato")
    shutil.copytree(tiny_sd_folder, tmp_path / "bundled" / "emoji")
    shutil.copytree(SHIPPED, tmp_path / "bundled" / "emoji" / "dual_encoder")
    fast = {"steps": 3, "skip": 1, "guidance_scale": 2.0}
    fit = [each for each in METHODS.values() if each.section and {*fast} <= {*options_of(each.params)}]
    sections = {each.section: dict(fast) for each in fit}
    sections["generate"] = {"steps": 2}
    (tmp_path / "bundled" / "emoji" / "sfumato.json").write_text(json.dumps(sections))
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path / "bundled")
    monkeypatch.setattr(Image.Image, "show", lambda self: None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.delenv("SFUMATO_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    tiny_picture(30, 22).save("photo.jpg")
    return tmp_path


def test_blocks_are_found():
    found = blocks("README.md")
    assert {"", "a model of yours"} <= {each.needs for each in found}
    assert sum(len(each.commands) for each in found) > 5
    assert sum(each.python for each in found) > 0


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_every_piece_of_python_is_valid(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(block.text)
        if "package" in block.needs or (page in RUN and not block.needs):
            continue
        if block.python:
            compile(block.text, f"{page}:{block.line}", "exec")
        for words in block.commands:
            try:
                parse(words)
            except SystemExit:  # --help
                pass
            except Exception as error:
                raise AssertionError(f"{page}:{block.line}: sfumato {shlex.join(words)}: {error}") from error


@pytest.mark.parametrize("page", [page for page in RUN if page in PAGES])
@pytest.mark.usefixtures("reader")
def test_the_page_runs(page, capsys):
    names = {"__name__": "page"}
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(block.text)
        if block.needs:
            continue
        if block.python:
            exec(compile(block.text, f"{page}:{block.line}", "exec"), names)
        for words in block.commands:
            code = main(words)
            assert code == 0, f"{page}:{block.line}: sfumato {shlex.join(words)}: {capsys.readouterr().err}"
