"""Read an Iconify package: a JSON file with the SVG bodies, and one that maps code points to icon names."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.data.emoji.names import codepoint_key
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.text_files import read_json

_DEFAULT_SIZE = 16
#: Largest JSON file that is read; the largest of the packages is 104 MB.
_MOST_BYTES = 256 << 20


def read_package_json(path: Path) -> Any:
    """Read a JSON file of an unpacked package. Raises BadInput if it cannot be read."""
    return read_json(path, f"delete the folder {printable(path.parent)} and fetch it again", _MOST_BYTES)


@dataclass(frozen=True)
class IconSet:
    """The icons of one package, with their aliases."""

    #: Icon name -> its entry in the format of Iconify.
    icons: dict[str, dict[str, Any]]
    #: Alias -> its entry, with the name of the icon under "parent".
    aliases: dict[str, dict[str, Any]]
    #: Icon name -> code points, as the package gives them; may be empty.
    names: dict[str, str]
    #: Default size of the icons, in SVG units.
    width: float
    height: float

    @classmethod
    def open(cls, package: Path) -> "IconSet":
        """Read `icons.json` and `chars.json` of an unpacked package. Raises BadInput if one is missing or damaged."""
        data, chars = (read_package_json(package / name) for name in ("icons.json", "chars.json"))
        if not _is_icons(data) or not _is_table(chars, str):
            again = f"delete the folder {printable(package)} and fetch it again"
            raise BadInput(f"{printable(package)} cannot be read (its icons are not in Iconify's format): {again}.")
        names = {name: codepoint_key(code) for code, name in chars.items()}
        aliases = data.get("aliases", {})
        for alias, entry in aliases.items():
            if set(entry) == {"parent"} and entry["parent"] in names:
                names.setdefault(alias, names[entry["parent"]])
        width, height = data.get("width", _DEFAULT_SIZE), data.get("height", _DEFAULT_SIZE)
        return cls(data["icons"], aliases, names, width, height)

    @property
    def mirrored(self) -> list[str]:
        """Aliases that are the mirror image of their parent icon."""
        return [alias for alias, entry in self.aliases.items() if entry.get("hFlip")]

    def other_names(self) -> dict[str, list[str]]:
        """Icon name -> its aliases with the same drawing."""
        out: dict[str, list[str]] = defaultdict(list)
        for alias, entry in self.aliases.items():
            if not entry.get("hFlip"):
                out[entry["parent"]].append(alias)
        return out

    def svg(self, name: str) -> str:
        """SVG document of an icon or a mirrored alias; `currentColor` becomes black."""
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
    """Whether the entries of `icons.json` that are used are present and have the right types."""
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
