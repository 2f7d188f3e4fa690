"""PIE-Bench in its published layout (Ju et al., "PnP Inversion", ICLR 2024): 700 pictures that users bring themselves.

    FOLDER/mapping_file.json          id -> image_path, original_prompt, editing_prompt, editing_type_id, mask, ...
    FOLDER/annotation_images/...      the pictures, 512 x 512 pixels

Its eight numbers are measured by its own rules and under its own names, so that they stand beside published tables:
prompts without their square brackets; the mask as (start, length) runs over the pixels row by row, with the picture's
border added to it; "unedit part" blackens what lies in the mask in both pictures, and averages over the *whole* picture
(which flatters edits with large masks); "edit part" blackens what lies outside; the structure distance shows its
network grey levels in 0..255 where that expects pixels in 0..1. Published numbers also need its networks: CLIP
ViT-L/14, DINO ViT-B/8 and LPIPS on SqueezeNet. Beside them stand our own metrics, whose masked means are over the
mask's area. What has no pixels has no value: NaN, left out of means.
"""

import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.bench.items import Item, Pictures, Scores
from sfumato.bench.judging import judged, stacked, stacked_masks
from sfumato.errors import BadInput
from sfumato.images import read_image
from sfumato.metrics import METRICS, Judge, Metric, VisionTower, lpips, mse, psnr, self_similarity, ssim
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
PUBLISHED = {
    each.name: each
    for each in (
        Metric("structure_distance", "PIE-Bench: structure distance to the source", "lower"),
        Metric("psnr_unedit_part", "PIE-Bench: PSNR with the mask black", "higher", "dB"),
        Metric("lpips_unedit_part", "PIE-Bench: LPIPS with the mask black", "lower"),
        Metric("mse_unedit_part", "PIE-Bench: mean squared error with the mask black", "lower"),
        Metric("ssim_unedit_part", "PIE-Bench: SSIM with the mask black", "higher"),
        Metric("clip_similarity_source_image", "PIE-Bench: 100 cos of source and its prompt", "higher"),
        Metric("clip_similarity_target_image", "PIE-Bench: 100 cos of edit and target prompt", "higher"),
        Metric("clip_similarity_target_image_edit_part", "PIE-Bench: the same, black outside the mask", "higher"),
    )
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
    metrics = PUBLISHED | METRICS
    headline = tuple(name for name in PUBLISHED if name != "clip_similarity_source_image")

    def __init__(self, folder: Path) -> None:
        content, table = _mapping(folder)
        self.identity = f"{self.name}, {MAPPING} {sha256(content).hexdigest()[:12]}"
        self.items: Sequence[Item] = [_item(folder, name, entry) for name, entry in table.items()]

    def score(
        self, judge: Judge, items: Sequence[Item], pictures: Sequence[Pictures], edits: Sequence[NDArray[np.uint8]]
    ) -> Scores:
        """The published numbers, and everything that the judge says."""
        return published(judge, items, pictures, edits) | judged(judge, items, pictures, edits)


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


def published(
    judge: Judge, items: Sequence[Item], pictures: Sequence[Pictures], edits: Sequence[NDArray[np.uint8]]
) -> Scores:
    """PIE-Bench's eight numbers by its own rules, with the judge's networks."""
    source, edit, mask = stacked([each.source for each in pictures]), stacked(edits), stacked_masks(pictures)
    assert mask is not None
    inside = mask[:, None]
    a, b = source * (1 - inside), edit * (1 - inside)
    given, wanted = [item.source_text for item in items], [item.target_text for item in items]
    unedited = {"psnr": psnr(a, b), "lpips": lpips(judge.perceptual, a, b), "mse": mse(a, b), "ssim": ssim(a, b)}
    full, empty = ((mask == value).flatten(1).all(1) for value in (1, 0))
    scores = {f"{name}_unedit_part": values.masked_fill(full, torch.nan) for name, values in unedited.items()}
    scores["structure_distance"] = structure_of_levels(judge.structure, source, edit)
    for name, seen, texts in (
        ("source_image", source, given),
        ("target_image", edit, wanted),
        ("target_image_edit_part", edit * inside, wanted),
    ):
        scores[f"clip_similarity_{name}"] = 100 * judge.clip.score(seen, texts).cpu().double().clamp(min=0)
    part = "clip_similarity_target_image_edit_part"
    scores[part] = scores[part].masked_fill(empty, torch.nan)
    return {name: scores[name].tolist() for name in PUBLISHED}


def structure_of_levels(tower: VisionTower, a: Tensor, b: Tensor) -> Tensor:
    """Structure distance, float64 [b], of pictures [b,3,h,w] in [0,1] as PIE-Bench's code measures it.

    It takes grey levels in 0..255 for pixels in 0..1, and so shows the network (255 x - mean) / std.
    """
    S_a, S_b = (self_similarity(tower.keys(2 * 255 * x.to(tower.mean) - 1)) for x in (a, b))
    return (S_a - S_b).square().mean((1, 2)).to(a.device)


def decode_mask(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """bool [height,width] from (start, length, start, length, ...) over the pixels row by row; the border is added.

    Raises:
        BadInput: not pairs of whole numbers, or a run that begins outside the picture.
    """
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in runs)
    if not whole or len(runs) % 2:
        raise BadInput("its mask must be pairs of whole numbers, start and length.")
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
