"""Pipes, devices, folders and missing files are refused with one sentence, without blocking."""

from pathlib import Path

import pytest

from sfumato.bench.journal import Journal
from sfumato.bench.piebench import MAPPING, PieBench
from sfumato.bench.settings import read_settings
from sfumato.cli.described import load_directions
from sfumato.data.corpus import MARKER, TABLE, read_corpus
from sfumato.data.imagefolder import METADATA, read_metadata
from sfumato.geometry import Directions
from sfumato.images import read_image, read_mask, read_recipe
from sfumato.inversion import Inversion
from sfumato.shifts.banks import read_bank
from sfumato.shifts.text_direction import TextDirection
from sfumato.text_files import read_json, read_json_lines, read_toml
from sfumato.train.recipe import load_recipe
from tests.attacks.limits import PLACES, at_once, place, refused

READERS = {
    "image": read_image,
    "mask": lambda path: read_mask(path, (4, 4)),
    "recipe of an image": read_recipe,
    "inversion": Inversion.load,
    "directions": load_directions,
    "other directions": Directions.load,
    "text direction": TextDirection.load,
    "bank": read_bank,
    "rows": lambda path: read_settings(Path(path)),
    "recipe": load_recipe,
    "json": lambda path: read_json(path, "give JSON"),
    "json lines": lambda path: list(read_json_lines(path, "give JSON")),
    "toml": lambda path: read_toml(path, "give TOML"),
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("reader", READERS)
def test_path_that_is_not_a_file_is_refused(tmp_path, reader, kind):
    path = place(tmp_path, kind, "x.png")
    with refused():
        READERS[reader](path)


def corpus(folder):
    (folder / MARKER).touch()
    return read_corpus(folder)


IN_FOLDERS = {
    "mapping": (MAPPING, PieBench),
    "table": (TABLE, corpus),
    "metadata": (METADATA, read_metadata),
}


@pytest.mark.parametrize("kind", [kind for kind in PLACES if kind != "null byte"])
@pytest.mark.parametrize("reader", IN_FOLDERS)
def test_folder_entry_that_is_not_a_file_is_refused(tmp_path, reader, kind):
    name, read = IN_FOLDERS[reader]
    place(tmp_path, kind, name)
    with refused():
        read(tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in PLACES if kind not in ("null byte", "missing")])
def test_journal_that_is_not_a_file_is_refused(tmp_path, kind):
    place(tmp_path, kind, "journal.jsonl")
    with refused():
        Journal(tmp_path, {})


def test_format_check_does_not_block(tmp_path):
    for kind in PLACES:
        with at_once():
            assert not Inversion.FORMAT.matches(place(tmp_path, kind, kind))


def test_links_to_files_are_followed(tmp_path):
    (tmp_path / "bank.txt").write_text("a cat\na dog\n")
    (tmp_path / "link").symlink_to("bank.txt")
    assert read_bank(tmp_path / "link") == ["a cat", "a dog"]
