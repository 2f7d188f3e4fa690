"""Encoding of image files: metadata, palettes of GIF, 16 bits per channel."""

import io
import zlib
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato.images.loaded_image import LoadedImage
from sfumato.images.metadata import exif_to_write, has_position
from sfumato.images.recipe import COMMENT, KEYWORD, recipe_packet
from sfumato.images.samples import Samples16
from sfumato.images.sixteen_bit_png import chunk, encode_png
from sfumato.images.sixteen_bit_tiff import encode_tiff
from sfumato.images.tiff import tiff_bytes

_WITH_EXIF = ("PNG", "WEBP", "TIFF", "JPEG")
_WITH_DPI = ("PNG", "TIFF", "JPEG", "BMP")
_XMP_TAG = 700
#: Largest XMP packet of a JPEG, one segment.
_LONGEST_PACKET = 65_000


def kept_metadata(
    like: LoadedImage | None, file_format: str, icc: bytes | None, keep_gps: bool, notes: list[str]
) -> dict[str, Any]:
    """Pillow's options for EXIF and resolution.

    Args:
        like: the source image, None for none.
        file_format: Pillow's name of the output's format.
        icc: the profile that is embedded, None for sRGB.
        keep_gps: keep the GPS position.
        notes: notes on omitted metadata are appended to this list.
    """
    if like is None:
        return {}
    found: dict[str, Any] = {}
    if like.dpi is not None and file_format in _WITH_DPI:
        found["dpi"] = like.dpi
    if file_format in _WITH_EXIF:
        dpi = None if file_format in _WITH_DPI else like.dpi
        exif = exif_to_write(like.exif, like.size, keep_gps=keep_gps, srgb=icc is None, dpi=dpi)
        found |= {"exif": exif} if exif else {}
        if has_position(like.exif) and not keep_gps:
            notes.append("the position (GPS) in its EXIF was left out: `sfumato edit --keep-gps` keeps it")
    elif like.exif:
        notes.append(f"{file_format} cannot store EXIF")
    return found


def with_recipe(text: str, file_format: str, notes: list[str]) -> dict[str, Any]:
    """Pillow's options for the recipe; for formats that cannot store it, a note is appended to `notes`."""
    packet = recipe_packet(text)
    if file_format == "PNG":
        chunk_of_text = PngInfo()
        chunk_of_text.add_itxt(KEYWORD, text)
        return {"pnginfo": chunk_of_text}
    if file_format == "WEBP" or (file_format == "JPEG" and len(packet) <= _LONGEST_PACKET):
        return {"xmp": packet}
    if file_format == "TIFF":
        return {"tags": {_XMP_TAG: packet}}
    if file_format == "GIF":
        return {"comment": COMMENT + text.encode()}
    why = "a recipe this long" if file_format == "JPEG" else "the recipe"
    notes.append(f"{file_format} cannot store {why}: write a .png to keep it")
    return {}


def encoded_image(image: Image.Image, file_format: str, options: dict[str, Any], notes: list[str]) -> memoryview:
    """Encode an 8-bit image. For GIF, appends notes on reduced colours and sets options["transparency"]."""
    if file_format == "GIF":
        image = _in_palette(image, options, notes)
    if file_format == "TIFF":
        known = {name: options[name] for name in ("dpi", "icc_profile") if name in options}
        return memoryview(tiff_bytes(image, options.get("exif", b""), options.get("tags", {}), **known))
    encoded = io.BytesIO()
    image.save(encoded, format=file_format, **options)
    return encoded.getbuffer()


def _in_palette(image: Image.Image, options: dict[str, Any], notes: list[str]) -> Image.Image:
    """Convert to at most 256 colours, exactly if the image has no more; the transparent colour, if any, is the last."""
    alpha = np.asarray(image.getchannel("A")) if image.mode in ("LA", "RGBA") else None
    seen = np.asarray(image.convert("RGB"))
    clear = None if alpha is None or alpha.min() >= 128 else alpha < 128
    most = 256 if clear is None else 255
    packed = (seen[..., 0].astype(np.uint32) << 16) | (seen[..., 1].astype(np.uint32) << 8) | seen[..., 2]
    colours = np.unique(packed if clear is None else packed[~clear])
    if alpha is not None and ((alpha > 0) & (alpha < 255)).any():
        notes.append("GIF stores only opaque and transparent pixels: partly transparent ones were rounded")
    if len(colours) > most:
        notes.append(f"GIF stores {most} colours of {len(colours):,}: write a .png to keep all")
        reduced = Image.fromarray(seen).quantize(most, dither=Image.Dither.NONE)
        places, palette = np.array(reduced), (reduced.getpalette() or [])[: 3 * most]
    else:
        places = np.searchsorted(colours, packed).clip(0, max(0, len(colours) - 1)).astype(np.uint8)
        palette = [int(each) for colour in colours for each in (colour >> 16, (colour >> 8) & 255, colour & 255)]
    if clear is not None:
        places[clear] = most
        palette = palette + [0] * (3 * (most + 1) - len(palette))
        options["transparency"] = most
    made = Image.fromarray(places.astype(np.uint8), mode="P")
    made.putpalette(palette)
    return made


def encoded_16_bit(samples: Samples16, file_format: str, options: dict[str, Any]) -> bytes:
    """Encode an image with 16 bits per channel."""
    known = {name: options[name] for name in ("exif", "tags", "dpi", "icc_profile") if name in options}
    if file_format == "TIFF":
        return encode_tiff(samples, **known)
    chunks = []
    if icc := options.get("icc_profile"):
        chunks.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if dpi := options.get("dpi"):
        per_metre = b"".join(round(each / 0.0254).to_bytes(4, "big") for each in dpi)
        chunks.append(chunk(b"pHYs", per_metre + b"\1"))
    if exif := options.get("exif"):
        chunks.append(chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if text := options.get("pnginfo"):
        chunks += [chunk(kind, data) for kind, data, *_ in text.chunks]
    return encode_png(samples, *chunks)
