"""Original samples of files with 16 bits per channel, which Pillow reduces to 8 bits unless they are grey."""

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.images.samples import Samples16
from sfumato.images.sixteen_bit_png import png_samples
from sfumato.images.sixteen_bit_tiff import tiff_samples


def samples_of_16_bits(image: Image.Image) -> Samples16 | None:
    """The 16-bit samples of an opened file whose pixels are not decoded yet.

    Returns:
        The samples in the orientation of the file; None for files with other depths, interlaced PNG, PNG of more than
        65,536 pixels in width + height, tiled TIFF, TIFF with separate planes or with colours multiplied by alpha, and
        files much larger than their samples.
    """
    file: BinaryIO | None = getattr(image, "fp", None)
    if file is None or image.format not in ("PNG", "TIFF"):
        return None
    before = file.tell()
    try:
        return png_samples(file, image) if image.format == "PNG" else tiff_samples(file, image)
    except Exception:  # damage is reported when Pillow decodes the file
        return None
    finally:
        file.seek(before)


def eight_bits(samples: Samples16) -> NDArray[np.uint8]:
    """Convert 16-bit to 8-bit levels: v / 257, rounded to the nearest integer."""
    return ((samples.astype(np.uint32) * 255 + 32_895) >> 16).astype(np.uint8)
