"""Pictures to try an edit on, shipped with the package. Imports nothing heavy."""

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """A shipped picture of 64 x 64 pixels, and an edit of it.

    Attributes:
        name: what `sfumato demo` calls it.
        source: the prompt of the picture, "name, style" as the shipped model knows it.
        target: the prompt of the edit.
        codepoints: the emoji in the corpus.
    """

    name: str
    source: str
    target: str
    codepoints: str

    @property
    def path(self) -> Path:
        """The PNG."""
        return FOLDER / f"{self.name}.png"

    @property
    def style(self) -> str:
        """The style of the artwork, as the corpus calls it."""
        return self.source.rpartition(", ")[2]


def examples() -> list[Example]:
    """All of them; the first is the one that the documentation shows."""
    return [Example(**each) for each in json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))]
