"""The recipe: the settings that made an image, as JSON inside the PNG. A recipe that is read is untrusted input."""

import json
import math
from collections.abc import Mapping
from typing import Any

from PIL.PngImagePlugin import PngInfo

from sfumato.errors import BadInput
from sfumato.images.read import MAX_PIXELS, Source, display_name, load_pixels, opened
from sfumato.text_files import parse_json

KEYWORD = "sfumato"
MAX_CHARACTERS = 1_000_000
_OURS = "give a PNG that sfumato wrote with its recipe"


def recipe_chunk(recipe: Mapping[str, Any]) -> PngInfo:
    """One uncompressed iTXt chunk of ASCII JSON; infinity and NaN, which JSON does not have, become strings.

    Raises:
        BadInput: the JSON is longer than `read_recipe` accepts.
    """
    text = json.dumps(_finite(dict(recipe)), allow_nan=False)
    if len(text) > MAX_CHARACTERS:
        raise BadInput(f"the recipe has {len(text):,} characters, more than {MAX_CHARACTERS:,}: shorten it.")
    chunk = PngInfo()
    chunk.add_itxt(KEYWORD, text)
    return chunk


def read_recipe(source: Source, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """Read the recipe from a PNG that sfumato wrote. Its values are not validated: check each before use.

    Args:
        source: as in `read_image`.
        max_pixels: as in `read_image`.

    Raises:
        BadInput: the file contains no recipe, or one that is too long or not a JSON object.
    """
    name = display_name(source)
    with opened(source, max_pixels) as image:
        # Other programs move text chunks behind the pixels; Pillow reads those only when it decodes the pixels.
        load_pixels(image, name)
        text = image.info.get(KEYWORD)
    if not isinstance(text, str):
        raise BadInput(f"{name} carries no sfumato recipe: {_OURS}.")
    if len(text) > MAX_CHARACTERS:
        raise BadInput(f"{name} carries a recipe of {len(text):,} characters, more than {MAX_CHARACTERS:,}: {_OURS}.")
    # Lone surrogates stand for undecodable bytes of file names.
    recipe = parse_json(text, f"{name} carries a recipe that", _OURS, constants=False, lone_surrogates=True)
    if not isinstance(recipe, dict):
        raise BadInput(f"{name} carries a recipe that is not a JSON object: {_OURS}.")
    return recipe


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
