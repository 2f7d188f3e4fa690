"""Reads an iconify package: one JSON file of SVG bodies, one that maps code points to icon names."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.data.emoji.names import codepoint_key
from sfumato.errors import BadInput

_DEFAULT_SIZE = 16


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read ({error}); delete the folder {path.parent} and fetch it again."
        ) from error


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
        """Read `icons.json` and `chars.json` of an unpacked package."""
        data = _read_json(package / "icons.json")
        names = {name: codepoint_key(code) for code, name in _read_json(package / "chars.json").items()}
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
