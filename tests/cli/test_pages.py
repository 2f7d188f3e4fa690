"""The commands and Python code of README.md and docs/: all are valid, and every page runs from top to bottom.

Scripts of papers/ and benchmarks/ measure for minutes or hours, so only their arguments are parsed, and the files that
they name must exist or be written by an earlier command of the page; tests/papers runs them with few images.

The pages run with a tiny model in place of the bundled one, a small corpus, and recipes of one step. A block under
`<!-- needs: ... -->` needs something that the reader supplies; it runs only if the tests supply it (`PROVIDED`).
docs/extending.md, whose blocks are the files of a package, runs in test_extending.py. Commands of pages that need the
complete corpus (`PARSED`) are only parsed.
"""

import argparse
import re
import runpy
import shlex
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from sfumato.cli import main
from sfumato.cli.commands import parse
from sfumato.data import emoji
from sfumato.models import bundled
from tests.cli import reader

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
PROVIDED = ("", "images of yours")
APART = "docs/extending.md"
#: Pages that do not run here: the blocks of `APART` are a package, the others need the complete corpus and its weights.
PARSED = (APART, "docs/papers/guidance.md", "docs/papers/paired_edits.md")
BLOCK = re.compile(r"^```(\w*)\n((?:[^\n]*\n)*?)```$|(?<=\n\n)((?:^ {4}[^\n]*\n|^\n(?= {4}))+)", re.MULTILINE)
LOOP = re.compile(r"^for (\w+) in ([^;\n]*); do\n(.*?)^done\n", re.MULTILINE | re.DOTALL)
#: Options that name outputs, and the folders of outputs.
OUTPUTS, WRITTEN = ("--out", "-o"), ("out/", "runs/", "data/")
NEEDS = re.compile(r"<!-- needs: ([^>]+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A code block of a page: language, text, line, and what the reader has to supply ("" for nothing)."""

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
        """The command lines of sfumato and of its modules, as words."""
        return [
            words
            for words in self.lines
            if words[0] == "sfumato" or (words[1:2] == ["-m"] and words[2].startswith("sfumato."))
        ]

    @property
    def scripts(self) -> list[list[str]]:
        """The command lines of modules of papers/ and benchmarks/: the name of the module and its arguments."""
        found = []
        for _, name, *rest in [words for words in self.lines if words not in self.commands]:
            module, arguments = (rest[0], rest[1:]) if name == "-m" else (name.removesuffix(".py"), rest)
            found.append([module.replace("/", "."), *arguments])
        return found

    @property
    def lines(self) -> list[list[str]]:
        """The command lines that begin with sfumato or python, as words; loops are written out."""
        if self.language not in ("", "bash", "sh"):
            return []
        text = LOOP.sub(lambda loop: repeated(*loop.groups()), self.text.replace("\\\n", " "))
        lines = [line.strip() for line in text.splitlines()]
        return [shlex.split(line, comments=True) for line in lines if line.startswith(("sfumato ", "python "))]

    @property
    def runs(self) -> bool:
        """Whether the block is run."""
        return self.needs in PROVIDED and bool(self.python or self.commands)


def repeated(name, values, body):
    """The body of a shell loop, once for every value."""
    return "".join(re.sub(rf"\$\{{?{name}\b\}}?", value, body) for value in values.split())


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
def folder(tmp_path, monkeypatch, tiny_sd_folder):
    """The working folder for the examples, with tiny models and a small corpus."""
    monkeypatch.setattr(bundled, "BUNDLED", reader.prepare(tmp_path, tiny_sd_folder))
    monkeypatch.setattr(emoji, "build", reader.build_small)
    monkeypatch.setattr("sfumato.train.parasol_text._STEPS", 2)
    monkeypatch.setattr(Image.Image, "show", lambda self: None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.delenv("SFUMATO_MODEL", raising=False)
    (tmp_path / "papers").symlink_to(ROOT / "papers")
    monkeypatch.chdir(tmp_path)


def test_blocks_are_found():
    found = blocks("README.md")
    assert {"", "a model of yours"} <= {each.needs for each in found}
    assert sum(len(each.commands) for each in found) > 5
    assert sum(each.python for each in found) > 0


def called(words):
    """Run a command; returns its exit code."""
    program, *arguments = words
    if program == "sfumato":
        return main(arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments[2:]])
        try:
            runpy.run_module(arguments[1], run_name="__main__")
        except SystemExit as end:
            return end.code or 0
        return 0


@pytest.mark.parametrize("page", PAGES)
def test_blocks_that_do_not_run_are_valid(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(block.text)
        if "package" in block.needs or (page not in PARSED and block.runs):
            continue
        if block.python:
            compile(block.text, f"{page}:{block.line}", "exec")
        for program, *words in block.commands:
            if program != "sfumato":
                continue
            try:
                parse(words)
            except SystemExit:  # --help
                pass
            except Exception as error:
                raise AssertionError(f"{page}:{block.line}: sfumato {shlex.join(words)}: {error}") from error


class Parsed(BaseException):
    """The arguments of a script were parsed; it is not a subclass of Exception, which a script may catch."""


def parsed(words):
    """Parse the arguments of a script without running it."""
    module, *arguments = words

    def parse_only(parser, given=None, namespace=None):
        parse_args(parser, given, namespace)
        raise Parsed

    parse_args = argparse.ArgumentParser.parse_args
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(Parsed):
            import_module(module).main()


def missing_files(words, written):
    """The files among the words that neither exist nor are written before; adds the outputs of the words to these."""
    outputs = [words[n + 1] for n, word in enumerate(words[:-1]) if word in OUTPUTS]
    named = [word for word in words[1:] if "/" in word and word not in outputs]
    lacking = [
        word
        for word in named
        if not (ROOT / word).exists() and not (word.startswith(WRITTEN) and word.startswith(tuple(written)))
    ]
    written += outputs
    return lacking


@pytest.mark.parametrize("page", [page for page in PAGES if any(each.scripts for each in blocks(page))])
def test_the_scripts_of_a_page_accept_its_arguments(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    written = ["data/emoji"]  # docs/training.md builds it
    for block in blocks(page):
        for words in block.scripts:
            place = f"{page}:{block.line}: {shlex.join(words)}"
            try:
                parsed(words)
            except SystemExit:
                pytest.fail(f"{place}: {capsys.readouterr().err}")
            if "--page" in words:
                assert words[words.index("--page") + 1] == page, place
        for words in block.lines if page.startswith("docs/papers/") else ():
            written += [words[2]] if words[1] == "benchmarks/stand_in.py" else []
            assert not missing_files(words, written), f"{page}:{block.line}: {shlex.join(words)}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in PARSED and any(each.runs for each in blocks(page))]
)
@pytest.mark.usefixtures("folder")
def test_the_page_runs(page, capsys):
    names = {"__name__": "page"}
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(block.text)
        if not block.runs:
            continue
        if block.python:
            exec(compile(block.text, f"{page}:{block.line}", "exec"), names)
        for words in block.commands:
            assert called(words) == 0, f"{page}:{block.line}: {shlex.join(words)}: {capsys.readouterr().err}"
