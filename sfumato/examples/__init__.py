"""Example images with prompts, bundled with the package. Imports no large library."""

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """A bundled image of 128 x 128 pixels, and an edit of it.

    Attributes:
        name: name in `sfumato demo`.
        source: prompt describing the image, "name, style" as in the training data of the bundled model.
        target: prompt describing the edited image.
        codepoints: code points of the emoji in the corpus.
    """

    name: str
    source: str
    target: str
    codepoints: str

    @property
    def path(self) -> Path:
        """Path of the PNG."""
        return FOLDER / f"{self.name}.png"

    @property
    def style(self) -> str:
        """Style of the artwork, as named in the corpus."""
        return self.source.rpartition(", ")[2]


def examples() -> list[Example]:
    """All examples; the documentation shows the first one."""
    return [Example(**each) for each in json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))]
