"""The table of emoji (CLDR names, keywords, groups), and a mapping from icon names to code points."""

import gzip
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Emoji:
    """One emoji of Unicode 17, as in the bundled table."""

    #: Lower-case code points without leading zeros and without U+FE0F, joined by hyphens.
    codepoints: str
    char: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    version: float


def codepoint_key(code: str) -> str:
    """Normalise code points to the key of all tables: '1F468-1F3FB-200D-2695-FE0F' -> '1f468-1f3fb-200d-2695'."""
    parts = (part.lower().lstrip("0") for part in re.split(r"[-_ ]", code))
    return "-".join(part for part in parts if part and part != "fe0f")


@cache
def emoji_table() -> dict[str, Emoji]:
    """All emoji by `codepoint_key`, in the order of Unicode's charts."""
    packed = files(__package__).joinpath("emoji_table.json.gz").read_bytes()
    table = {}
    for char, code, name, keywords, group, subgroup, version in json.loads(gzip.decompress(packed)):
        key = codepoint_key(code)
        table[key] = Emoji(key, char, name, tuple(keywords), group, subgroup, float(version))
    return table


@cache
def fxemoji_names() -> dict[str, str]:
    """Icon name -> code points of FxEmojis, whose names do not follow a rule."""
    table = json.loads(files(__package__).joinpath("fxemoji_codepoints.json").read_text())
    return {name: codepoint_key(code) for name, code in table.items()}


def slugify(text: str) -> str:
    """ASCII slug as icon sets use it for names: 'Woman’s hat & bag' -> 'womans-hat-and-bag'."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.replace("&", " and ").replace("'", "")).strip("-")


def cldr_slugs(table: Mapping[str, Emoji]) -> dict[str, str]:
    """Slug of the CLDR short name -> code points; of equal slugs the first is used."""
    return _first((slugify(emoji.name), key) for key, emoji in table.items())


def unicode_slugs(table: Mapping[str, Emoji]) -> dict[str, str]:
    """Slug of the Unicode character name -> code point, for emoji with a single code point."""
    single = (key for key in table if "-" not in key)
    return _first((slugify(unicodedata.name(chr(int(key, 16)), "")), key) for key in single)


def shortcode_slugs(shortcodes: Mapping[str, str | list[str]], table: Mapping[str, Emoji]) -> dict[str, str]:
    """Invert a shortcode file of emojibase (code points -> names): slug of the name -> code points."""
    pairs = []
    for code, names in shortcodes.items():
        key = codepoint_key(code)
        if key in table:
            pairs += [(slugify(name), key) for name in ([names] if isinstance(names, str) else names)]
    return _first(pairs)


def _first(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    out: dict[str, str] = {}
    for name, key in pairs:
        out.setdefault(name, key)
    return out


class NameResolver:
    """Map icon names to code points, for icon sets without code points.

    Args:
        tables: tables slug -> code points, in order of priority. Names that none of them contains are looked up again
            without hyphens.
    """

    def __init__(self, tables: Sequence[Mapping[str, str]]) -> None:
        self._tables = list(tables)
        self._compact = _first((name.replace("-", ""), key) for table in tables for name, key in table.items())

    def __call__(self, candidates: Sequence[str]) -> str | None:
        """Code points of the first candidate name that a table contains, or None."""
        for name in candidates:
            for table in self._tables:
                if name in table:
                    return table[name]
        for name in candidates:
            if (key := self._compact.get(name.replace("-", ""))) is not None:
                return key
        return None
