"""Reading small text files that may come from anywhere: JSON, JSON lines, TOML and plain text.

Every file has a limit of size. What is read from JSON and TOML is not nested deeply, has no whole number of more than
100 digits and, where the caller does not ask for them, no halves of characters (lone surrogates, which JSON can spell
and no file or terminal can hold): it can be hashed, written again and converted to floats without a look at it.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

from sfumato.errors import BadInput
from sfumato.files import Named, printable
from sfumato.regular_files import open_regular, read_bytes, reason

MAX_BYTES = 16 << 20
MAX_TOML_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 64
_MAX_BITS = 332  # 100 decimal digits

_LONE = re.compile("[\ud800-\udfff]")
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
#: A dotted key of TOML with many parts, whose time to parse grows with their square.
_DEEP_KEY = re.compile(rf"(?:^|[{{,\[])[ \t]*(?:{_PART}){{{MAX_DEPTH}}}", re.MULTILINE)


def read_text(path: Named, give: str, limit: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Args:
        path: the file.
        give: what to give instead, as the end of a sentence: "give a text file (UTF-8)".
        limit: most bytes.

    Raises:
        BadInput: no regular file, more bytes, or not UTF-8.
    """
    return decoded(read_bytes(path, give, limit), printable(path), give)


def read_json(path: Named, give: str, limit: int = MAX_BYTES, *, lone_surrogates: bool = False) -> Any:
    """The value of a JSON file; NaN and Infinity are read as Python writes them.

    Raises:
        BadInput: as `read_text`; or what is not JSON, or a value that the module's first lines exclude.
    """
    return parse_json(read_text(path, give, limit), printable(path), give, lone_surrogates=lone_surrogates)


def read_json_lines(
    path: Named, give: str, limit: int = MAX_LINE_BYTES, *, lone_surrogates: bool = False
) -> Iterator[tuple[int, Any]]:
    """The number, from 1, and the JSON value of every line that is not blank, as they are read from the disk.

    Args:
        path: the file, of any length.
        give: what to give instead.
        limit: most bytes of a line.
        lone_surrogates: whether texts may have halves of characters, which the caller then looks for.

    Raises:
        BadInput: as `read_json`, with the number of the line.
    """
    with open_regular(path, give) as file:
        for number, line in enumerate(iter(lambda: file.readline(limit + 1), b""), start=1):
            where = f"{printable(path)} line {number}"
            if len(line) > limit:
                raise BadInput(f"{where} has more than {limit:,} bytes, which is the limit: {give}.")
            text = decoded(line, where, give)
            if text.strip():
                yield number, parse_json(text, where, give, lone_surrogates=lone_surrogates)


def read_toml(path: Named, give: str, limit: int = MAX_TOML_BYTES) -> dict[str, Any]:
    """The table of a TOML file. Raises BadInput as `read_json`."""
    content, name = read_bytes(path, give, limit), printable(path)
    try:
        text = content.decode("utf-8-sig")
        if _DEEP_KEY.search(text):
            raise ValueError(f"a key of more than {MAX_DEPTH} parts")
        return dict(_checked(tomllib.loads(text)))
    except RecursionError as error:
        raise BadInput(f"{name} is not valid TOML (nested too deeply): {give}.") from error
    except ValueError as error:
        raise BadInput(f"{name} is not valid TOML ({reason(error)}): {give}.") from error


def parse_json(text: str, name: str, give: str, *, constants: bool = True, lone_surrogates: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: all of it.
        name: begins the sentence of an error.
        give: what to give instead.
        constants: whether numbers may be NaN and Infinity, which JSON lacks and Python writes.
        lone_surrogates: whether texts may have halves of characters, which the caller then looks for.

    Raises:
        BadInput: as `read_json`.
    """
    try:
        return _checked(json.loads(text, parse_constant=None if constants else _refuse), lone_surrogates)
    except RecursionError as error:
        raise BadInput(f"{name} is not JSON (nested too deeply): {give}.") from error
    except ValueError as error:
        raise BadInput(f"{name} is not JSON ({reason(error)}): {give}.") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def has_lone_surrogate(text: str) -> bool:
    """Whether a text has halves of characters, which no file, tokenizer or terminal can hold."""
    return not text.isascii() and _LONE.search(text) is not None


def check_text(text: str, name: str) -> None:
    """Refuse a text that no tokenizer reads. `name` begins the sentence. Raises BadInput."""
    if has_lone_surrogate(text):
        raise BadInput(f'{name} "{text[:40]}" has half a character in it (a lone surrogate): leave it out.')


def decoded(content: bytes, name: str, give: str) -> str:
    """The text of a UTF-8 file's bytes, without its byte order mark. Raises BadInput, which begins with `name`."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text: {give}.") from error


def _checked(value: Any, lone_surrogates: bool = False) -> Any:
    """The same value. Raises ValueError for what the module's first lines exclude; walks level by level."""
    level: Iterable[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _parts(each, lone_surrogates)]
        if not level:
            return value
    raise ValueError(f"more than {MAX_DEPTH} levels")


def _parts(value: Any, lone_surrogates: bool) -> Iterable[Any]:
    if isinstance(value, str):
        if not lone_surrogates and has_lone_surrogate(value):
            raise ValueError("half a character, a lone surrogate, in a text")
    elif isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise ValueError("an integer of more than 100 digits")
    elif isinstance(value, dict):
        return [*value, *value.values()]
    elif isinstance(value, list):
        return value
    return ()
