"""Render SVG drawings to PNG files and measure them."""

import hashlib
import io
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from sfumato.data.pixels import FORMATS, open_drawing
from sfumato.errors import BadInput
from sfumato.files import write_bytes

_DIGEST_KEY = "Source-Digest"
#: Thresholds in 0..255: a pixel belongs to the drawing above this alpha, and is visible above this contrast to white.
_MIN_ALPHA, _MIN_CONTRAST = 16, 24


@dataclass(frozen=True)
class Job:
    """One image to render."""

    path: Path
    svg: str
    #: Pixels along each side.
    size: int


@dataclass(frozen=True)
class Measured:
    """Measurements of an image's pixels, for the table."""

    #: Mean alpha in [0, 1].
    coverage: float
    #: left, top, right, bottom in pixels, right and bottom exclusive; empty for an empty image.
    bbox: tuple[int, ...]
    #: Fraction of pixels that differ from a white background, in [0, 1]; 0 if the drawing is invisible on white.
    visible: float
    #: SHA-256 (hexadecimal) of the pixels.
    digest: str


@dataclass(frozen=True)
class Failed:
    """A drawing that could not be rendered."""

    reason: str


def renderer() -> str:
    """Name and version of the SVG renderer."""
    return f"resvg-py {version('resvg-py')}"


def render_svg(svg: str, size: int) -> np.ndarray:
    """Render an SVG document, centred and with its aspect ratio, to RGBA.

    Returns:
        uint8 [size,size,4] with straight alpha; transparent pixels are zero.
    """
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    image = Image.open(io.BytesIO(png), formats=FORMATS).convert("RGBA")
    if image.size != (size, size):
        image = _letterbox(image, size)
    pixels = np.array(image)
    pixels[pixels[..., 3] == 0] = 0
    return pixels


def _letterbox(image: Image.Image, size: int) -> Image.Image:
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGBA", (size, size))
    resized = image.resize((width, height), Image.Resampling.LANCZOS)
    canvas.paste(resized, ((size - width) // 2, (size - height) // 2))
    return canvas


def measure(pixels: np.ndarray) -> Measured:
    """Measure coverage, bounding box, visibility and digest of RGBA pixels, uint8 [h,w,4] with straight alpha."""
    ys, xs = np.nonzero(pixels[..., 3] > _MIN_ALPHA)
    bbox = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1) if len(xs) else ()
    alpha = pixels[..., 3:].astype(np.float32) / 255
    contrast = (255 - pixels[..., :3]).max(axis=-1, keepdims=True) * alpha
    return Measured(
        coverage=round(float(alpha.mean()), 4),
        bbox=bbox,
        visible=round(float((contrast > _MIN_CONTRAST).mean()), 4),
        digest=hashlib.sha256(pixels.tobytes()).hexdigest(),
    )


def render_image(job: Job) -> Measured | Failed:
    """Render a drawing to its PNG file, unless the file already contains it, and measure it.

    The file contains a hash of the SVG, the size and the renderer. A build that is resumed after an interruption, or
    repeated with newer artwork, therefore renders only missing and changed images.
    """
    stamp = hashlib.sha256(f"{renderer()}\n{job.size}\n{job.svg}".encode()).hexdigest()
    pixels = _read_if_current(job.path, stamp)
    if pixels is None:
        try:
            pixels = render_svg(job.svg, job.size)
        except (ValueError, OSError, RuntimeError) as error:
            return Failed(" ".join(str(error).split()) or type(error).__name__)
        _write_png(job.path, pixels, stamp)
    return measure(pixels)


def _read_if_current(path: Path, stamp: str) -> np.ndarray | None:
    try:
        with open_drawing(path) as image:
            return np.array(image) if image.info.get(_DIGEST_KEY) == stamp else None
    except Exception:  # decoders raise many types; the image is rendered again
        return None


def is_rendered(path: Path) -> bool:
    """Whether a file is an image that `render_image` wrote, of any drawing."""
    try:
        with open_drawing(path) as image:
            return _DIGEST_KEY in image.info
    except BadInput:
        return False


def _write_png(path: Path, pixels: np.ndarray, stamp: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text(_DIGEST_KEY, stamp)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue(), sync=False)
