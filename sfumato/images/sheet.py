"""Contact sheets: rows of images with labels below them."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sfumato.errors import BadInput

Pixels: TypeAlias = NDArray[np.uint8]
_INK = (32, 32, 32)


def contact_sheet(
    rows: Sequence[Sequence[Pixels]],
    labels: Sequence[Sequence[str]] | None = None,
    *,
    title: str = "",
    scale: int = 1,
    font_size: int = 14,
    gap: int = 12,
    paper: tuple[int, int, int] = (255, 255, 255),
) -> Pixels:
    """Draw rows of images on one sheet, uint8 [H, W, 3].

    Args:
        rows: sRGB images, uint8 [h, w, 3] each.
        labels: a text for every image, drawn below it and wrapped to its column; "\\n" starts a new line.
        title: a text above all rows.
        scale: integer factor by which images are enlarged (nearest neighbour), at least 1.
        font_size: font size in pixels, at least 6.
        gap: space between images in pixels.
        paper: background colour, sRGB.

    Raises:
        BadInput: a row is empty, labels do not match the images, or an argument is out of range.
    """
    _check(rows, labels, scale, font_size)
    font = ImageFont.load_default(font_size)
    line_height = round(font_size * 1.35)
    enlarged = [[image.repeat(scale, axis=0).repeat(scale, axis=1) for image in row] for row in rows]
    widths = [
        max(row[column].shape[1] for row in enlarged if column < len(row))
        for column in range(max(len(row) for row in enlarged))
    ]
    texts = [
        [_wrap(labels[r][c] if labels is not None else "", widths[c], font) for c in range(len(row))]
        for r, row in enumerate(enlarged)
    ]
    sheet_width = sum(widths) + gap * (len(widths) + 1)
    heading = _wrap(title, sheet_width - 2 * gap, font)
    image_heights = [max(image.shape[0] for image in row) for row in enlarged]
    text_heights = [line_height * max(len(lines) for lines in row) for row in texts]
    top = gap + (line_height * len(heading) + gap // 2 if heading else 0)
    sheet_height = top + sum(image_heights) + sum(text_heights) + gap * len(rows)

    sheet = Image.new("RGB", (sheet_width, sheet_height), paper)
    draw = ImageDraw.Draw(sheet)
    _write(draw, heading, (gap, gap), font, line_height)
    for row, row_texts, image_height, text_height in zip(enlarged, texts, image_heights, text_heights, strict=True):
        left = gap
        for image, lines, width in zip(row, row_texts, widths[: len(row)], strict=True):
            sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (left, top))
            _write(draw, lines, (left, top + image_height + 2), font, line_height)
            left += width + gap
        top += image_height + text_height + gap
    return np.asarray(sheet, dtype=np.uint8)


def shrunk(image: Pixels, longest: int) -> Pixels:
    """Downscale an image uint8 [h, w, 3] to at most `longest` pixels on its longer side (Lanczos)."""
    height, width = image.shape[:2]
    share = longest / max(height, width)
    if share >= 1:
        return image
    size = (max(1, round(share * width)), max(1, round(share * height)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), dtype=np.uint8)


def _check(
    rows: Sequence[Sequence[Pixels]], labels: Sequence[Sequence[str]] | None, scale: int, font_size: int
) -> None:
    if not rows or not all(len(row) for row in rows):
        raise BadInput("a contact sheet needs at least one image in every row.")
    if labels is not None and [len(row) for row in labels] != [len(row) for row in rows]:
        raise BadInput("a contact sheet needs one label for every image.")
    if scale < 1 or font_size < 6:
        raise BadInput("a contact sheet needs a scale of at least 1 and a font size of at least 6.")
    for image in (image for row in rows for image in row):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise BadInput(f"images must be uint8 [h, w, 3], not {image.dtype} {list(image.shape)}.")


def _write(
    draw: ImageDraw.ImageDraw,
    lines: Sequence[str],
    corner: tuple[int, int],
    font: ImageFont.FreeTypeFont,
    line_height: int,
) -> None:
    for i, line in enumerate(lines):
        draw.text((corner[0], corner[1] + i * line_height), line, fill=_INK, font=font)


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break a text into lines of at most `width` pixels, at spaces or inside words that are wider than a line."""
    lines: list[str] = []
    for paragraph in text.split("\n") if text else []:
        line = ""
        for word in paragraph.split(" "):
            if not line or font.getlength(f"{line} {word}") <= width:
                line = f"{line} {word}" if line else word
            else:
                lines.append(line)
                line = word
            while len(line) > 1 and font.getlength(line) > width:
                fits = max(1, _longest_prefix(line, width, font))
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    return lines


def _longest_prefix(word: str, width: int, font: ImageFont.FreeTypeFont) -> int:
    return next((n for n in range(len(word), 0, -1) if font.getlength(word[:n]) <= width), 0)
