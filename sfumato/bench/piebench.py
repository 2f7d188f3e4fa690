"""PIE-Bench in its published layout (Ju et al., "PnP Inversion", ICLR 2024): 700 pictures that users bring themselves.

    FOLDER/mapping_file.json          id -> image_path, original_prompt, editing_prompt, editing_type_id, mask, ...
    FOLDER/annotation_images/...      the pictures, 512 x 512 pixels

Prompts are read without their square brackets; the mask as (start, length) runs over the pixels row by row, with the
image's border added to it. Its eight numbers (`sfumato.bench.piebench_metrics`) stand beside our own metrics, whose
masked means are over the mask's area. What has no pixels has no value: NaN, left out of means.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.bench.items import Item, Pictures
from sfumato.bench.piebench_metrics import PUBLISHED
from sfumato.errors import BadInput
from sfumato.images import read_image
from sfumato.metrics import METRICS, Metric
from sfumato.paths import inside
from sfumato.regular_files import read_bytes
from sfumato.text_files import decoded, parse_json

MAPPING, IMAGES = "mapping_file.json", "annotation_images"
#: editing_type_id -> what sort of edit it is.
TYPES = {
    "0": "random",
    "1": "change object",
    "2": "add object",
    "3": "delete object",
    "4": "change content",
    "5": "change pose",
    "6": "change colour",
    "7": "change material",
    "8": "change background",
    "9": "change style",
}
_PROMPTS = ("original_prompt", "editing_prompt")
_SAFE = re.compile(r"[\w-][\w.-]*")
#: Most bytes of a name, which becomes a file's.
_LONGEST = 200
#: Of the mapping, and of the file of a picture.
_MOST_BYTES = 64 << 20
#: What no file's name and no report can hold: zero bytes, and halves of a character.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class PieBench:
    """The edits of a copy of PIE-Bench.

    Raises:
        BadInput: the folder is not in its layout. A single bad entry, or its name, is that edit's own failure.
    """

    name = "piebench"
    headline = tuple(name for name in PUBLISHED if name != "clip_similarity_source_image")

    def __init__(self, folder: Path) -> None:
        content, table = _mapping(folder)
        self.metrics: Mapping[str, Metric] = {**PUBLISHED, **METRICS}
        self.identity = f"{self.name}, {MAPPING} {sha256(content).hexdigest()[:12]}"
        self.items: Sequence[Item] = [_item(folder, name, entry) for name, entry in table.items()]


def _mapping(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of the mapping, and what they say. Halves of characters are one entry's fault, and not the file's."""
    layout = f"give a folder in PIE-Bench's layout, with {MAPPING}, one JSON object of edits, and {IMAGES}/"
    try:
        content = read_bytes(folder / MAPPING, layout, _MOST_BYTES)
        table = parse_json(decoded(content, MAPPING, layout), MAPPING, layout, lone_surrogates=True)
    except BadInput as error:
        raise BadInput(f"{folder} is not PIE-Bench: {error}") from error
    if not isinstance(table, dict):
        raise BadInput(f"{folder} is not PIE-Bench: {MAPPING} is not a JSON object: {layout}.")
    return content, table


def decode_mask(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """bool [height,width] from (start, length, start, length, ...) over the pixels row by row; the border is added.

    Raises:
        BadInput: not pairs of integers, or a run that begins outside the picture.
    """
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in runs)
    if not whole or len(runs) % 2:
        raise BadInput("its mask must be pairs of integers, start and length.")
    mask: NDArray[np.bool_] = np.zeros((height, width), bool)
    flat = mask.reshape(-1)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if start >= flat.size:
            raise BadInput(f"its mask begins at pixel {start}, and the picture has {flat.size}.")
        flat[start : start + length] = True
    mask[[0, -1], :] = mask[:, [0, -1]] = True
    return mask


def _item(folder: Path, name: str, entry: Any) -> Item:
    """An edit, whatever the entry is: what is wrong with it is said when it is loaded."""
    known = entry if isinstance(entry, dict) else {}
    texts = [_writable(known.get(key, "")).replace("[", "").replace("]", "") for key in _PROMPTS]
    kind, shown = TYPES.get(str(known.get("editing_type_id")), "unknown"), _writable(name)
    load, origin = partial(_load, folder, name, entry), partial(_origin, folder, known)
    return Item(shown, kind, "", texts[0], texts[1], load, origin)


def _load(folder: Path, name: str, entry: Any) -> Pictures:
    try:
        _check(name, entry)
        source = read_image(_place(folder, entry)).rgb
        return Pictures(source, None, decode_mask(entry["mask"], *source.shape[:2]))
    except BadInput as error:
        raise BadInput(f"edit {_writable(name)}: {error}") from error


def _check(name: str, entry: Any) -> None:
    """Raises BadInput for an entry that is no edit, and for a name that is no file's."""
    if not _SAFE.fullmatch(name) or len(name.encode()) > _LONGEST:
        raise BadInput(f"its name must be letters, digits, dots and dashes, at most {_LONGEST} bytes.")
    if not isinstance(entry, dict):
        raise BadInput(f"it must be a JSON object with an image_path, {_PROMPTS[0]}, {_PROMPTS[1]} and a mask.")
    for key in ("image_path", *_PROMPTS):
        if not isinstance(entry.get(key), str) or _NO_TEXT.search(entry[key]):
            raise BadInput(f"its {key} must be text.")
    if not isinstance(entry.get("mask"), list):
        raise BadInput("its mask must be a list.")


def _place(folder: Path, entry: dict[str, Any]) -> Path:
    """Where its picture lies. Raises BadInput outside the folder of pictures, and for what is no path."""
    name = entry.get("image_path", "")
    if not inside(folder / IMAGES, name):
        raise BadInput(f"its image_path must lie inside {IMAGES}.")
    return folder / IMAGES / str(name)


def _origin(folder: Path, entry: dict[str, Any]) -> bytes:
    """The picture's file; texts and mask are the mapping's, which all results share."""
    return read_bytes(_place(folder, entry), "give an image file", _MOST_BYTES)


def _writable(value: Any) -> str:
    """As text that a report can hold."""
    return _NO_TEXT.sub(lambda odd: ascii(odd[0])[1:-1], str(value))
