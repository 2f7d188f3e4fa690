"""What an edit, a reconstruction or a generation gives back."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import BadInput
from sfumato.images import Picture, write_image


@dataclass(frozen=True, eq=False)
class Result:
    """Pictures, and what is known about how they came to be.

    Attributes:
        pixels: uint8 [h,w,3] sRGB per picture.
        sources: the pictures that were edited, one per result; empty for generated ones.
        recipes: per picture, everything needed to make it again from its source, and what it was made with.
        report: seconds, network_evaluations, reconstruction_latent_max_error (None until it was measured),
            parameters, metrics.
    """

    pixels: list[NDArray[np.uint8]]
    sources: list[Picture]
    recipes: list[dict[str, Any]]
    report: dict[str, Any]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def images(self) -> list[Image.Image]:
        """The pictures as Pillow images, RGB in sRGB, on the background where the source was transparent."""
        return [Image.fromarray(pixels) for pixels in self.pixels]

    def save(self, path: str | os.PathLike[str], index: int = 0, *, recipe: bool = True) -> str:
        """Write one picture with its source's alpha and colour profile; returns a note, "" if nothing was lost.

        Args:
            path: where to; the ending chooses the format.
            index: which of the pictures.
            recipe: put the recipe into the metadata of a PNG.

        Raises:
            BadInput: no such picture, or a path that cannot be written.
        """
        if not 0 <= index < len(self):
            raise BadInput(f"index must be between 0 and {len(self) - 1}, not {index}.")
        source = self.sources[index] if self.sources else None
        about = self.recipes[index]
        return write_image(
            path, self.pixels[index], source, about if recipe else None, masked=bool(about.get("masked"))
        )
