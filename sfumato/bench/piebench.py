"""PIE-Bench in its published layout (Ju et al., "PnP Inversion", ICLR 2024): 700 images, which are not included.

    FOLDER/mapping_file.json          id -> image_path, original_prompt, editing_prompt, editing_type_id, mask, ...
    FOLDER/annotation_images/...      the images, 512 x 512 pixels

Square brackets are removed from the prompts. The mask is run-length encoded as (start, length) over the pixels row by
row; the border of the image is added to it. The eight metrics of PIE-Bench (`sfumato.bench.piebench_metrics`) are
reported together with the metrics of `sfumato.metrics`, whose masked means are over the area of the mask. A metric over
an empty region is NaN and left out of means.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.bench.items import Item, ItemImages, edit_metrics
from sfumato.bench.piebench_metrics import PUBLISHED, VERSIONS
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, read_image
from sfumato.images.read import opened
from sfumato.metrics import Metric
from sfumato.paths import inside
from sfumato.regular_files import read_bytes
from sfumato.text_files import decoded, parse_json

MAPPING, IMAGES = "mapping_file.json", "annotation_images"
#: Width and height in pixels of all images; the masks are positions in images of this size.
SIDE = 512
#: editing_type_id -> kind of edit.
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
#: Largest length in bytes of an edit's name, which becomes a file name.
_LONGEST = 200
#: Largest size in bytes of the mapping and of an image file.
_MOST_BYTES = 64 << 20
#: Characters that file names and reports cannot contain: NUL and lone surrogates.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class PieBench:
    """The edits of a copy of PIE-Bench.

    Args:
        folder: folder in the published layout.

    Raises:
        BadInput: the folder has another layout, or its first image another size. Invalid entries or names do not raise
            here; only the edits concerned fail when they are loaded.
    """

    name = "piebench"
    headline = tuple(name for name in PUBLISHED if name != "clip_similarity_source_image")

    def __init__(self, folder: Path) -> None:
        content, table = _mapping(folder)
        _check_first_image(folder, table)
        self.metrics: Mapping[str, Metric] = {**PUBLISHED, **VERSIONS, **edit_metrics(target_image=False)}
        self.identity = f"{self.name}, {MAPPING} {sha256(content).hexdigest()[:12]}"
        self.items: Sequence[Item] = [_item(folder, name, entry) for name, entry in table.items()]


def _mapping(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Bytes and content of the mapping file. Lone surrogates are allowed here; they invalidate only their entry."""
    layout = f"give a folder in PIE-Bench's layout, with {MAPPING}, one JSON object of edits, and {IMAGES}/"
    try:
        content = read_bytes(folder / MAPPING, layout, _MOST_BYTES)
        table = parse_json(decoded(content, MAPPING, layout), MAPPING, layout, lone_surrogates=True)
    except BadInput as error:
        raise BadInput(f"{folder} is not PIE-Bench: {error}") from error
    if not isinstance(table, dict):
        raise BadInput(f"{folder} is not PIE-Bench: {MAPPING} is not a JSON object: {layout}.")
    return content, table


def _check_first_image(folder: Path, table: dict[str, Any]) -> None:
    """Check the size of the first image that can be opened, as the images of a folder usually have one size.

    Raises:
        BadInput: the image has not the size that the masks are encoded for.
    """
    for name, entry in table.items():
        try:
            _check(name, entry)
            with opened(_place(folder, entry), MAX_PIXELS) as image:
                size = image.size
        except BadInput:  # raised again when the edit is loaded
            continue
        try:
            _check_size(size)
        except BadInput as error:
            raise BadInput(f"{folder} is not PIE-Bench: edit {_writable(name)}: {error}") from error
        return


def _check_size(size: tuple[int, int]) -> None:
    if size != (SIDE, SIDE):
        raise BadInput(
            f"its image has {size[0]} x {size[1]} pixels, but the masks are encoded for {SIDE} x {SIDE}: give the "
            "published images."
        )


def decode_mask(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Decode a run-length encoded mask to bool [height,width] and add the border of the image.

    Args:
        runs: (start, length, start, length, ...) over the pixels row by row.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Raises:
        BadInput: `runs` is not a list of pairs of integers of at least 0, or a run begins outside the image.
    """
    valid = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in runs)
    if not valid or len(runs) % 2:
        raise BadInput("its mask must be pairs of integers of at least 0, start and length.")
    mask: NDArray[np.bool_] = np.zeros((height, width), bool)
    flat = mask.reshape(-1)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if start >= flat.size:
            raise BadInput(f"a run of its mask begins at pixel {start}, and the image has {flat.size} pixels.")
        flat[start : start + length] = True
    mask[[0, -1], :] = mask[:, [0, -1]] = True
    return mask


def _item(folder: Path, name: str, entry: Any) -> Item:
    """The edit of an entry; an invalid entry raises when the edit is loaded."""
    known = entry if isinstance(entry, dict) else {}
    texts = [_writable(known.get(key, "")).replace("[", "").replace("]", "") for key in _PROMPTS]
    kind, shown = TYPES.get(str(known.get("editing_type_id")), "unknown"), _writable(name)
    load, origin = partial(_load, folder, name, entry), partial(_origin, folder, known)
    return Item(shown, kind, "", texts[0], texts[1], load, origin)


def _load(folder: Path, name: str, entry: Any) -> ItemImages:
    try:
        _check(name, entry)
        image = read_image(_place(folder, entry))
        _check_size(image.size)
        return ItemImages(image.rgb, None, decode_mask(entry["mask"], SIDE, SIDE))
    except BadInput as error:
        raise BadInput(f"edit {_writable(name)}: {error}") from error


def _check(name: str, entry: Any) -> None:
    """Raises BadInput for an invalid entry and for a name that is not usable as a file name."""
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
    """Path of the entry's image. Raises BadInput for a path outside the folder of images, or no path."""
    name = entry.get("image_path", "")
    if not inside(folder / IMAGES, name):
        raise BadInput(f"its image_path must lie inside {IMAGES}.")
    return folder / IMAGES / str(name)


def _origin(folder: Path, entry: dict[str, Any]) -> bytes:
    """The image file as bytes; the benchmark's identity covers texts and masks, by the hash of the mapping."""
    return read_bytes(_place(folder, entry), "give an image file", _MOST_BYTES)


def _writable(value: Any) -> str:
    """The value as text, with characters escaped that a report cannot contain."""
    return _NO_TEXT.sub(lambda odd: ascii(odd[0])[1:-1], str(value))
