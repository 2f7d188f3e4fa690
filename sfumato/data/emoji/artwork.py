"""Read the drawings of a style from its package and assign them code points."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from sfumato.data.emoji.iconify import IconSet, read_package_json
from sfumato.data.emoji.names import (
    NameResolver,
    cldr_slugs,
    codepoint_key,
    emoji_table,
    fxemoji_names,
    shortcode_slugs,
    slugify,
    unicode_slugs,
)
from sfumato.data.emoji.sources import NAME_TABLES, WHEELS, Style
from sfumato.errors import BadInput
from sfumato.text_files import read_text

_AGAIN = "delete the package and fetch it again"

Resolver = Callable[[Sequence[str]], str | None]


@dataclass(frozen=True)
class Artwork:
    """One drawing of one emoji."""

    codepoints: str
    #: Index of the drawing, from 0, if a style has several for one emoji.
    variant: int
    #: Name of the drawing in the package.
    source: str
    svg: str


@dataclass
class Mapping:
    """Names of unused icons of a style: icons that match no known emoji, and duplicates."""

    unmapped: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)


def load_resolver(npm: Path) -> NameResolver:
    """Build a resolver from all name tables of the packages under `npm`."""
    table = emoji_table()
    sets = [IconSet.open(npm / package).names for package in NAME_TABLES]
    known = [{name: key for name, key in names.items() if key in table} for names in sets]
    shortcodes = sorted((npm / "emojibase-data/en/shortcodes").glob("*.json"))
    codes = [shortcode_slugs(read_package_json(path), table) for path in shortcodes]
    return NameResolver([cldr_slugs(table), *known, *codes, unicode_slugs(table)])


def read_npm(style: Style, npm: Path, resolve: Resolver, report: Mapping) -> Iterator[Artwork]:
    """Read the drawings of a style from the unpacked packages under `npm`.

    Args:
        style: the style.
        npm: folder of the unpacked packages.
        resolve: maps icon names to code points, for packages without code points.
        report: collects the names of unused icons.
    """
    package = npm / style.package
    if style.folder:
        return read_svg_folder(package / style.folder, report)
    icons = IconSet.open(package)
    if style.package == "fluent-emoji":  # the same slugs as the flat set, which has code points
        return _drawings(icons, _by_table(IconSet.open(npm / "fluent-emoji-flat").names, resolve), report)
    if style.package == "fxemoji":
        return _drawings(icons, lambda names: fxemoji_names().get(names[0]), report)
    return _drawings(icons, _by_table(icons.names, resolve), report, style.package == "streamline-emojis")


def read_wheel(style: Style, report: Mapping) -> Iterator[Artwork]:
    """Read the drawings of a style from an installed PyPI package. Raises BadInput if it is not installed."""
    wheel = WHEELS[style.name]
    spec = find_spec(wheel.module)
    if spec is None or not spec.submodule_search_locations:
        package = wheel.package
        raise BadInput(
            f"The style {style.name!r} needs the package {package.name}: pip install {package.name}=={package.version}"
        )
    return read_svg_folder(Path(next(iter(spec.submodule_search_locations))) / wheel.folder, report)


def read_svg_folder(folder: Path, report: Mapping) -> Iterator[Artwork]:
    """Read the drawings of a folder whose SVG files are named by code points. Raises BadInput if there are none."""
    files = sorted(folder.glob("*.svg"))
    if not files:
        raise BadInput(f"No SVG files were found in {folder}; {_AGAIN}.")
    seen = set()
    for file in files:
        key = codepoint_key(file.stem)
        if key in emoji_table() and key not in seen:
            seen.add(key)
            yield Artwork(key, 0, file.name, read_text(file, _AGAIN))
        else:
            report.unmapped.append(file.stem)


def _by_table(names: dict[str, str], resolve: Resolver) -> Resolver:
    return lambda candidates: names.get(candidates[0]) or resolve(candidates)


def _drawings(icons: IconSet, resolve: Resolver, report: Mapping, numbered: bool = False) -> Iterator[Artwork]:
    """One drawing for each (code points, variant); if `numbered`, a suffix "-1", "-2", ... of a name is the variant."""
    table, other, mirrored = emoji_table(), icons.other_names(), icons.mirrored
    best: dict[tuple[str, int], str] = {}
    for name in [*icons.icons, *mirrored]:
        key, variant = resolve([name, *other.get(name, [])]), 0
        if key is None and numbered and (match := re.fullmatch(r"(.+)-(\d+)", name)):
            key, variant = resolve([match[1]]), int(match[2]) - 1
        if key is None or key not in table:
            report.unmapped.append(name)
        elif (key, variant) not in best:
            best[key, variant] = name
        else:  # two slugs for one emoji: prefer the slug of the CLDR name
            report.duplicate.append(name)
            if slugify(table[key].name) == name:
                best[key, variant] = name
    for (key, variant), name in best.items():
        yield Artwork(key, variant, name, icons.svg(name))
