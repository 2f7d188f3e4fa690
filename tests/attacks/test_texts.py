"""Malicious and invalid text files are refused with one sentence, quickly and with little memory."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfumato.bench.journal import Journal
from sfumato.bench.piebench import MAPPING, PieBench
from sfumato.bench.settings import read_settings
from sfumato.data.corpus import MARKER, TABLE, read_corpus
from sfumato.data.emoji.fetch import unpacked_version
from sfumato.data.emoji.iconify import IconSet
from sfumato.data.emoji.table import SCHEMA
from sfumato.data.imagefolder import METADATA, read_metadata
from sfumato.errors import BadInput
from sfumato.files import write_text
from sfumato.shifts.banks import read_bank
from sfumato.text_files import MAX_BYTES, read_json, read_json_lines, read_toml
from sfumato.train.recipe import load_recipe
from tests.attacks.limits import at_once, peak, refused

GIVE = "give another"
VALUES = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "rather deep list": "[" * 200 + "]" * 200,
    "deep object": '{"a":' * 500 + "1" + "}" * 500,
    "open list": "[" * 3_000_000,
    "5000 digits": "1" * 5000,
    "4000 digits": "1" * 4000,
    "key with an unpaired surrogate": '{"\\ud800": 1}',
    "an unpaired surrogate": '["\\udfff"]',
    "nothing": "",
    "half": '{"a": ',
}


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES.keys())
def test_malicious_or_invalid_json_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with refused("a.json"):
        read_json(tmp_path / "a.json", GIVE)
    (tmp_path / METADATA).write_text(text)
    with refused(METADATA):
        read_metadata(tmp_path)
    (tmp_path / MAPPING).write_text(text)
    if "\\u" not in text:  # an unpaired surrogate fails only its own edit
        with refused("PIE-Bench"):
            PieBench(tmp_path)
    (tmp_path / "journal.jsonl").write_text(f"{{}}\n{text}\n")
    with refused("damaged"):
        Journal(tmp_path, {})
    (tmp_path / "package.json").write_text(text)
    assert unpacked_version(tmp_path) is None


TABLES = {
    "deep list": "a = " + "[" * 5000 + "]" * 5000,
    "deep table": "a = " + "{a = " * 3000 + "1" + "}" * 3000,
    "long key": "a" + ".a" * 300_000 + " = 1",
    "long key in a table": "x = {" + "a." * 300_000 + "a = 1}",
    "long header": "[" + '"a".' * 100_000 + "a]",
    "5000 digits": "a = " + "1" * 5000,
    "4000 digits": "a = " + "1" * 4000,
    "not UTF-8": "a = '\udcff'",
    "twice": "a = 1\na = 2",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES.keys())
def test_malicious_or_invalid_toml_is_refused(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for read in (lambda: read_toml(path, GIVE), lambda: load_recipe(path), lambda: read_settings(path)):
        with refused("a.toml"):
            read()


def test_endless_files_are_refused_with_little_memory(tmp_path):
    before = peak()
    for name in ("a.txt", METADATA, "journal.jsonl"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(1 << 40)
    for read in (
        lambda: read_bank(tmp_path / "a.txt"),
        lambda: read_json(tmp_path / "a.txt", GIVE),
        lambda: read_toml(tmp_path / "a.txt", GIVE),
        lambda: read_metadata(tmp_path),
        lambda: Journal(tmp_path, {}),
    ):
        with refused("bytes"):
            read()
    assert peak() - before < 8 * MAX_BYTES


def test_valid_files_are_read_unchanged(tmp_path):
    value = {"a": [1, 2.5, "ü😀", None, True, float("inf")], "b": {"c": 10**30}}
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(value).encode())
    assert read_json(tmp_path / "a.json", GIVE) == value
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\r\n\n[2]\n"\xe2\x80\xa8"')
    assert list(read_json_lines(tmp_path / "a.jsonl", GIVE)) == [(1, {"a": 1}), (3, [2]), (4, "\u2028")]
    prompt = "a. " * 500
    (tmp_path / "a.toml").write_text(f'[x.y.z]\na.b = "{prompt}"\nc = "{"a." * 500}"\n')
    assert read_toml(tmp_path / "a.toml", GIVE) == {"x": {"y": {"z": {"a": {"b": prompt}, "c": "a." * 500}}}}
    (tmp_path / "b.json").write_text("[" * 60 + "]" * 60)
    assert read_json(tmp_path / "b.json", GIVE)
    (tmp_path / "c.json").write_text('"\\ud800"')
    assert read_json(tmp_path / "c.json", GIVE, lone_surrogates=True) == "\ud800"


JOURNALS = {
    "a text": '"text"',
    "a list": "[]",
    "no names": '{"setting": "s"}',
    "names of another type": '{"setting": [], "item": {}}',
    "scores of another type": '{"setting": "s", "item": "i", "scores": [1]}',
    "a score that is text": '{"setting": "s", "item": "i", "scores": {"psnr": "1"}}',
    "a cost that is text": '{"setting": "s", "item": "i", "seconds": "1"}',
    "an error that is none": '{"setting": "s", "item": "i", "error": 3}',
}


@pytest.mark.parametrize("line", JOURNALS.values(), ids=JOURNALS.keys())
def test_journal_with_invalid_lines_is_refused(tmp_path, line):
    for content in (f"{{}}\n{line}\n", f"{line}\n{{}}\n"):
        (tmp_path / "journal.jsonl").write_text(content)
        with refused("damaged"):
            Journal(tmp_path, {})


def test_incomplete_line_is_removed_only_from_a_matching_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"model": "a"}\n{"half')
    with refused("another model"):
        Journal(tmp_path, {"model": "b"})
    assert path.read_text() == '{"model": "a"}\n{"half'
    Journal(tmp_path, {"model": "a"}).close()
    assert path.read_text() == '{"model": "a"}\n'


def corpus_row(**more):
    row = {field.name: None for field in SCHEMA} | {"file": "a.png", "style": "noto", "name": "a", "keywords": ["a"]}
    texts = dict.fromkeys(("group", "subgroup", "untoned", "base", "skin_tone", "duplicate_of"), "")
    return row | texts | {"bbox": [0, 0, 4, 4], "visible": 1.0} | more


def write_corpus(folder, table):
    (folder / MARKER).touch()
    pq.write_table(table, folder / TABLE)


def test_invalid_corpus_tables_are_refused(tmp_path):
    for more, words in (
        ({"bbox": [None, None, None, None]}, "rows without bbox"),
        ({"keywords": [None]}, "rows without keywords"),
        ({"name": None}, "rows without name"),
    ):
        write_corpus(tmp_path, pa.Table.from_pylist([corpus_row(**more)], schema=SCHEMA))
        with refused(words):
            read_corpus(tmp_path)
    table = pa.Table.from_pylist([corpus_row()], schema=SCHEMA)
    write_corpus(tmp_path, table)
    assert len(read_corpus(tmp_path)) == 1
    odd = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    write_corpus(tmp_path, table.set_column(0, "file", odd))
    with refused("cannot be read"):
        read_corpus(tmp_path)
    write_corpus(tmp_path, pa.table({"x": pa.nulls(6_000_000)}))
    with refused("more than 5,000,000 rows"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    "icons",
    [[], {}, {"icons": 3}, {"icons": {"a": {}}}, {"icons": {"a": {"body": 3}}}, {"icons": {}, "aliases": {"b": {}}}],
)
def test_invalid_icon_packages_are_refused(tmp_path, icons):
    (tmp_path / "icons.json").write_text(json.dumps(icons))
    (tmp_path / "chars.json").write_text("{}")
    with refused("fetch it again"):
        IconSet.open(tmp_path)


def test_unpaired_surrogate_is_not_written(tmp_path):
    with at_once(), pytest.raises(BadInput, match="an unpaired surrogate"):
        write_text(tmp_path / "a", "\ud800")
    assert list(tmp_path.iterdir()) == []
