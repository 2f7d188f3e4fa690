"""The result of an edit, a reconstruction, an interpolation or a generation."""

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
    """Images with their recipes and a report; `len(result)` is the number of images.

    Attributes:
        pixels: per image, uint8 [h,w,3] in sRGB.
        sources: per image, the source, whose alpha channel and colour profile `save` uses; [] for generated
            images.
        recipes: per image, all settings needed to make it again from its source, with versions and device, as JSON
            values.
        report: seconds, network_evaluations, reconstruction_latent_max_error (None if not measured), parameters,
            metrics.
    """

    pixels: list[NDArray[np.uint8]]
    sources: list[Picture]
    recipes: list[dict[str, Any]]
    report: dict[str, Any]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def images(self) -> list[Image.Image]:
        """The images as Pillow images in sRGB; transparent parts of the source are composited on its background."""
        return [Image.fromarray(pixels) for pixels in self.pixels]

    def save(self, path: str | os.PathLike[str], index: int = 0, *, recipe: bool = True) -> str:
        """Write one image with the alpha channel and colour profile of its source.

        Args:
            path: output file; its extension determines the format.
            index: index of the image, 0 to len(result) - 1.
            recipe: write the recipe to the metadata of a PNG.

        Returns:
            A note on what the format could not store, "" if nothing was lost.

        Raises:
            BadInput: an index out of range, or a path that cannot be written.
        """
        if not 0 <= index < len(self):
            raise BadInput(f"index must be between 0 and {len(self) - 1}, not {index}.")
        source = self.sources[index] if self.sources else None
        about = self.recipes[index]
        return write_image(
            path, self.pixels[index], source, about if recipe else None, masked=bool(about.get("masked"))
        )
