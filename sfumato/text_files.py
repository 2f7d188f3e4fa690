"""Read small untrusted text files: JSON, JSON lines, TOML and plain text.

The size of every file is limited. Values from JSON and TOML have a limited nesting depth and no integers of more than
100 digits. Unless the caller allows them, strings contain no lone surrogates (halves of UTF-16 pairs, which JSON can
contain but UTF-8 cannot encode). The values can therefore be hashed, written again and converted to floats without
further checks.

Small files are not read again while they are unchanged (`sfumato.kept_files`).
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

from sfumato.downloads import HEAD, mistaken
from sfumato.errors import BadInput
from sfumato.files import Named, printable
from sfumato.kept_files import KeptFiles, version_of
from sfumato.regular_files import open_regular, read_bytes, reason

MAX_BYTES = 16 << 20
MAX_TOML_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 64
_MAX_BITS = 332  # 100 decimal digits
_KEPT_FILES, _KEPT_BYTES = 16, 1 << 16
"""Number and largest size of the files whose content is kept in memory."""
_kept = KeptFiles[bytes](_KEPT_FILES)

_LONE = re.compile("[\ud800-\udfff]")
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
#: A dotted TOML key with many parts: the time to parse it grows with the square of their number.
_DEEP_KEY = re.compile(rf"(?:^|[{{,\[])[ \t]*(?:{_PART}){{{MAX_DEPTH}}}", re.MULTILINE)


def read_text(path: Named, give: str, limit: int = MAX_BYTES) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Args:
        path: the file.
        give: advice at the end of the error message, such as "give a text file (UTF-8)".
        limit: largest size in bytes.

    Raises:
        BadInput: the file is not a regular file, too large, not UTF-8, or the result of a failed download
            (`sfumato.downloads`).
    """
    return decoded(_read(path, give, limit), printable(path), give)


def _read(path: Named, give: str, limit: int) -> bytes:
    """All bytes of a file, from memory if they are kept. Raises BadInput as `read_text`, except for UTF-8."""
    version = version_of(path)
    content = _kept.find(version)
    if content is None or len(content) > limit:
        content = read_bytes(path, give, limit)
        if len(content) <= _KEPT_BYTES:
            _kept.keep(version, content)
    if problem := mistaken(content[:HEAD], len(content)):
        raise BadInput(f"{printable(path)} {problem}.")
    return content


def read_json(path: Named, give: str, limit: int = MAX_BYTES, *, lone_surrogates: bool = False) -> Any:
    """Read a JSON file; NaN and Infinity, which Python writes, are accepted.

    Raises:
        BadInput: as `read_text`; or the content is not JSON or exceeds the limits in the docstring of this module.
    """
    return parse_json(read_text(path, give, limit), printable(path), give, lone_surrogates=lone_surrogates)


def read_json_lines(
    path: Named, give: str, limit: int = MAX_LINE_BYTES, *, lone_surrogates: bool = False
) -> Iterator[tuple[int, Any]]:
    """Yield the line number, from 1, and the JSON value of every line that is not blank, one line at a time.

    Args:
        path: the file, of any length.
        give: advice at the end of the error message.
        limit: largest size of a line in bytes.
        lone_surrogates: whether strings may contain lone surrogates, which the caller then has to check.

    Raises:
        BadInput: as `read_json`, with the line number.
    """
    with open_regular(path, give) as file:
        for number, line in enumerate(iter(lambda: file.readline(limit + 1), b""), start=1):
            where = f"{printable(path)} line {number}"
            if len(line) > limit:
                raise BadInput(f"{where} is larger than the limit of {limit:,} bytes: {give}.")
            text = decoded(line, where, give)
            if text.strip():
                yield number, parse_json(text, where, give, lone_surrogates=lone_surrogates)


def read_toml(path: Named, give: str, limit: int = MAX_TOML_BYTES) -> dict[str, Any]:
    """Read the top-level table of a TOML file. Raises BadInput as `read_json`."""
    content, name = _read(path, give, limit), printable(path)
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
    """Parse JSON.

    Args:
        text: the complete text.
        name: description of the text, as the beginning of the error message.
        give: advice at the end of the error message.
        constants: whether NaN and Infinity are accepted; they are not part of JSON, but Python writes them.
        lone_surrogates: whether strings may contain lone surrogates, which the caller then has to check.

    Raises:
        BadInput: as `read_json`.
    """
    if not text.strip():
        raise BadInput(f"{name} is not JSON (it is empty): {give}.")
    try:
        return _checked(json.loads(text, parse_constant=None if constants else _refuse), lone_surrogates)
    except RecursionError as error:
        raise BadInput(f"{name} is not JSON (nested too deeply): {give}.") from error
    except ValueError as error:
        raise BadInput(f"{name} is not JSON ({reason(error)}): {give}.") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def has_lone_surrogate(text: str) -> bool:
    """Whether a text contains lone surrogates, which UTF-8 files, tokenizers and terminals cannot represent."""
    return not text.isascii() and _LONE.search(text) is not None


def check_text(text: str, name: str) -> None:
    """Raise BadInput for a text with lone surrogates, which tokenizers cannot read; the message begins with `name`."""
    if has_lone_surrogate(text):
        raise BadInput(f'{name} "{text[:40]}" contains an unpaired surrogate: remove it.')


def decoded(content: bytes, name: str, give: str) -> str:
    """Decode UTF-8 and remove a byte order mark. Raises BadInput, whose message begins with `name`."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text: {give}.") from error


def _checked(value: Any, lone_surrogates: bool = False) -> Any:
    """Return `value`; raise ValueError outside the limits in the docstring of this module. Not recursive."""
    level: Iterable[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _parts(each, lone_surrogates)]
        if not level:
            return value
    raise ValueError(f"more than {MAX_DEPTH} levels")


def _parts(value: Any, lone_surrogates: bool) -> Iterable[Any]:
    if isinstance(value, str):
        if not lone_surrogates and has_lone_surrogate(value):
            raise ValueError("an unpaired surrogate in a string")
    elif isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise ValueError("an integer of more than 100 digits")
    elif isinstance(value, dict):
        return [*value, *value.values()]
    elif isinstance(value, list):
        return value
    return ()
