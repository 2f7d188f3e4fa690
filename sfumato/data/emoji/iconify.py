"""Reads an iconify package: one JSON file of SVG bodies, one that maps code points to icon names."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.data.emoji.names import codepoint_key
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.text_files import read_json

_DEFAULT_SIZE = 16
#: The largest of the packages has 104 MB of drawings in one file.
_MOST_BYTES = 256 << 20


def read_package_json(path: Path) -> Any:
    """The value of a JSON file of a fetched package. Raises BadInput, which says to fetch it again."""
    return read_json(path, f"delete the folder {printable(path.parent)} and fetch it again", _MOST_BYTES)


@dataclass(frozen=True)
class IconSet:
    """The icons of one package, with their aliases."""

    icons: dict[str, dict[str, Any]]
    aliases: dict[str, dict[str, Any]]
    #: Icon name -> code points, from the package itself; empty where it has none.
    names: dict[str, str]
    width: float
    height: float

    @classmethod
    def open(cls, package: Path) -> "IconSet":
        """Read `icons.json` and `chars.json` of an unpacked package. Raises BadInput for a damaged one."""
        data, chars = (read_package_json(package / name) for name in ("icons.json", "chars.json"))
        if not _is_icons(data) or not _is_table(chars, str):
            again = f"delete the folder {printable(package)} and fetch it again"
            raise BadInput(f"{printable(package)} cannot be read (it holds no icons as iconify writes them): {again}.")
        names = {name: codepoint_key(code) for code, name in chars.items()}
        aliases = data.get("aliases", {})
        for alias, entry in aliases.items():
            if set(entry) == {"parent"} and entry["parent"] in names:
                names.setdefault(alias, names[entry["parent"]])
        width, height = data.get("width", _DEFAULT_SIZE), data.get("height", _DEFAULT_SIZE)
        return cls(data["icons"], aliases, names, width, height)

    @property
    def mirrored(self) -> list[str]:
        """Aliases that are drawings of their own: their parent's mirror image."""
        return [alias for alias, entry in self.aliases.items() if entry.get("hFlip")]

    def other_names(self) -> dict[str, list[str]]:
        """Icon name -> its aliases that mean the same drawing."""
        out: dict[str, list[str]] = defaultdict(list)
        for alias, entry in self.aliases.items():
            if not entry.get("hFlip"):
                out[entry["parent"]].append(alias)
        return out

    def svg(self, name: str) -> str:
        """The icon as an SVG document; what has no colour of its own becomes black."""
        flip = name not in self.icons
        icon = self.icons[self.aliases[name]["parent"] if flip else name]
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = icon.get("width", self.width), icon.get("height", self.height)
        body = icon["body"].replace("currentColor", "#000")
        if flip:
            body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{body}</svg>'
        )


def _is_icons(data: Any) -> bool:
    """Whether the parts that are used are there, and of their types."""
    tables = isinstance(data, dict) and [data.get("icons"), data.get("aliases", {})]
    if not tables or not all(_is_table(table, dict) for table in tables):
        return False
    numbers = [data.get("width", 0), data.get("height", 0)]
    for icon in data["icons"].values():
        numbers += [icon.get(name, 0) for name in ("left", "top", "width", "height")]
    bodies = all(isinstance(icon.get("body"), str) for icon in data["icons"].values())
    parents = all(entry.get("parent") in data["icons"] for entry in data.get("aliases", {}).values())
    return bodies and parents and all(isinstance(number, int | float) for number in numbers)


def _is_table(value: Any, kind: type) -> bool:
    return isinstance(value, dict) and all(isinstance(each, kind) for each in value.values())
