"""The result of an edit, a reconstruction, an interpolation or a generation."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import BadInput
from sfumato.images import LoadedImage, check_output, write_image


@dataclass(frozen=True, eq=False)
class Result:
    """Images with their recipes and a report; `len(result)` is the number of images.

    Attributes:
        pixels: per image, uint8 [h,w,3] in sRGB.
        sources: per image, the source, whose alpha channel and colour profile `save` uses; [] for generated
            images.
        recipes: per image, all settings that are needed to reproduce it from its source, with versions and device, as
            JSON values.
        report: seconds, network_evaluations, reconstruction_latent_max_error (None if not measured), parameters,
            metrics.
    """

    pixels: list[NDArray[np.uint8]]
    sources: list[LoadedImage]
    recipes: list[dict[str, Any]]
    report: dict[str, Any]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def images(self) -> list[Image.Image]:
        """The images as Pillow images in sRGB; transparent parts of the source are composited on its background."""
        return [Image.fromarray(pixels) for pixels in self.pixels]

    def save(
        self, path: str | os.PathLike[str], index: int | None = None, *, recipe: bool = True, keep_gps: bool = False
    ) -> str:
        """Write the images, each with the alpha channel, colour profile, resolution and EXIF of its source.

        Args:
            path: output file; its extension determines the format. Several images become out-0.png, out-1.png, ...
                All paths are checked before the first one is written.
            index: write only this image, 0 to len(result) - 1, to `path` itself.
            recipe: whether to write the recipe to the metadata of the file (all formats except BMP).
            keep_gps: whether to keep the GPS position in the EXIF of the source, which is removed by default.

        Returns:
            A note on data that the format cannot store, "" if there is none.

        Raises:
            BadInput: the index is out of range, or a path cannot be written.
        """
        if index is not None and not 0 <= index < len(self):
            raise BadInput(f"index must be between 0 and {len(self) - 1}, not {index}.")
        chosen = range(len(self)) if index is None else [index]
        paths = numbered(Path(path), len(chosen))
        for each in paths:
            check_output(each)
        notes = [self._write(each, n, recipe, keep_gps) for each, n in zip(paths, chosen, strict=True)]
        return "; ".join(dict.fromkeys(note for note in notes if note))

    def _write(self, path: Path, index: int, recipe: bool, keep_gps: bool) -> str:
        source, about = self.sources[index] if self.sources else None, self.recipes[index]
        return write_image(
            path,
            self.pixels[index],
            source,
            about if recipe else None,
            masked=bool(about.get("masked")),
            keep_gps=keep_gps,
        )


@dataclass(frozen=True, eq=False)
class Part:
    """Images of a run that are finished before the others.

    Attributes:
        outputs: their indices among the results of the run.
        result: the images with their recipes, without a report.
    """

    outputs: list[int]
    result: Result


def numbered(path: Path, count: int) -> list[Path]:
    """Return the output path of every image: `path` for a single image, otherwise out-0.png, out-1.png, ..."""
    return [path] if count == 1 else [path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(count)]
