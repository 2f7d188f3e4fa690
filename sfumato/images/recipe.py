"""The recipe: the settings that created an image, stored as JSON in its file. Recipes are untrusted input when read.

PNG stores it in an iTXt chunk, JPEG, WebP and TIFF in an XMP packet, GIF in a comment.
"""

import json
import math
import re
from collections.abc import Mapping
from html import escape, unescape
from typing import Any

from sfumato.errors import BadInput
from sfumato.images.read import MAX_PIXELS, Source, display_name, load_pixels, opened
from sfumato.text_files import parse_json

KEYWORD = "sfumato"
#: First bytes of a comment that contains a recipe.
COMMENT = b"sfumato recipe: "
MAX_CHARACTERS = 1_000_000
_OURS = "give an image that sfumato wrote with its recipe"
_SPACE = "https://sfumato.invalid/recipe/1.0/"
#: Programs that rewrite XMP may turn the attribute into an element.
_IN_PACKET = re.compile(rb"sfumato:recipe\s*=\s*\"([^\"<]*)\"|<sfumato:recipe>([^<]*)</sfumato:recipe>")


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """ASCII JSON; infinity and NaN, which JSON does not have, become strings.

    Raises:
        BadInput: the JSON is longer than `read_recipe` accepts.
    """
    text = json.dumps(_finite(dict(recipe)), allow_nan=False)
    if len(text) > MAX_CHARACTERS:
        raise BadInput(f"the recipe has {len(text):,} characters, more than {MAX_CHARACTERS:,}: shorten it.")
    return text


def recipe_packet(text: str) -> bytes:
    """An XMP packet (ISO 16684-1) with the text of a recipe as its only property."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:sfumato="{_SPACE}" sfumato:recipe="{escape(text)}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def read_recipe(source: Source, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """Read the recipe from an image that sfumato wrote. Its values are not validated: check each before use.

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
        text = image.info.get(KEYWORD) or _other_text(image.info)
    if not isinstance(text, str):
        raise BadInput(f"{name} contains no sfumato recipe: {_OURS}.")
    if len(text) > MAX_CHARACTERS:
        raise BadInput(f"{name} contains a recipe of {len(text):,} characters, more than {MAX_CHARACTERS:,}: {_OURS}.")
    # Lone surrogates stand for undecodable bytes of file names.
    recipe = parse_json(text, f"{name} contains a recipe that", _OURS, constants=False, lone_surrogates=True)
    if not isinstance(recipe, dict):
        raise BadInput(f"{name} contains a recipe that is not a JSON object: {_OURS}.")
    return recipe


def _other_text(info: Mapping[Any, Any]) -> str | None:
    """The text of a recipe in XMP or in a comment, as Pillow found them."""
    packet, comment = info.get("xmp"), info.get("comment")
    if isinstance(packet, bytes) and (found := _IN_PACKET.search(packet)):
        return unescape((found[1] or found[2] or b"").decode("utf-8", "replace"))
    if isinstance(comment, bytes) and comment.startswith(COMMENT):
        return comment.removeprefix(COMMENT).decode("utf-8", "replace")
    return None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
