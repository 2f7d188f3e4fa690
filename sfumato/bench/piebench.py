"""PIE-Bench in its published layout (Ju et al., "PnP Inversion", ICLR 2024): 700 pictures that users bring themselves.

    FOLDER/mapping_file.json          id -> image_path, original_prompt, editing_prompt, editing_type_id, mask, ...
    FOLDER/annotation_images/...      the pictures, 512 x 512 pixels

Its eight numbers are measured by its own rules and under its own names, so that they stand beside published tables:
prompts without their square brackets; the mask as (start, length) runs over the pixels row by row, with the picture's
border added to it; "unedit part" blackens what lies in the mask in both pictures, and averages over the *whole* picture
(which flatters edits with large masks); "edit part" blackens what lies outside. Published numbers also need its
networks: CLIP ViT-L/14, DINO ViT-B/8 and LPIPS on SqueezeNet. Beside them stand our own metrics, whose masked means are
over the mask's area. What has no pixels has no value: NaN, left out of means.
"""

import json
import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.bench.items import Item, Pictures, Scores
from sfumato.bench.judging import judged, stacked, stacked_masks
from sfumato.errors import BadInput
from sfumato.images import read_image
from sfumato.metrics import METRICS, Judge, Metric, lpips, mse, psnr, ssim, structure_distance

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
_SAFE = re.compile(r"[\w-][\w.-]*")


class PieBench:
    """The edits of a copy of PIE-Bench.

    Raises:
        BadInput: the folder is not in its layout. A single bad entry is that edit's own failure.
    """

    name = "piebench"
    metrics = PUBLISHED | METRICS
    headline = tuple(name for name in PUBLISHED if name != "clip_similarity_source_image")

    def __init__(self, folder: Path) -> None:
        try:
            content = (folder / MAPPING).read_bytes()
            table = json.loads(content)
            entries = [(name, dict(entry)) for name, entry in table.items()]
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise BadInput(
                f"{folder} is not PIE-Bench: it must hold {MAPPING}, one JSON object of edits, and {IMAGES}/ ({error})."
            ) from error
        self.identity = f"{self.name}, {MAPPING} {sha256(content).hexdigest()[:12]}"
        self.items: Sequence[Item] = [_item(folder, name, entry) for name, entry in entries]

    def score(
        self, judge: Judge, items: Sequence[Item], pictures: Sequence[Pictures], edits: Sequence[NDArray[np.uint8]]
    ) -> Scores:
        """The published numbers, and everything that the judge says."""
        return published(judge, items, pictures, edits) | judged(judge, items, pictures, edits)


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
    scores["structure_distance"] = structure_distance(judge.structure, source, edit)
    for name, seen, texts in (
        ("source_image", source, given),
        ("target_image", edit, wanted),
        ("target_image_edit_part", edit * inside, wanted),
    ):
        scores[f"clip_similarity_{name}"] = 100 * judge.clip.score(seen, texts).cpu().double().clamp(min=0)
    part = "clip_similarity_target_image_edit_part"
    scores[part] = scores[part].masked_fill(empty, torch.nan)
    return {name: scores[name].tolist() for name in PUBLISHED}


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


def _item(folder: Path, name: str, entry: dict[str, Any]) -> Item:
    if not _SAFE.fullmatch(name):
        raise BadInput(f"{folder / MAPPING} has an edit called {name!r}: names are letters, digits, dots and dashes.")
    texts = [str(entry.get(key, "")).replace("[", "").replace("]", "") for key in ("original_prompt", "editing_prompt")]
    kind = TYPES.get(str(entry.get("editing_type_id")), "unknown")
    return Item(name, kind, "", texts[0], texts[1], partial(_load, folder, name, entry))


def _load(folder: Path, name: str, entry: dict[str, Any]) -> Pictures:
    root = (folder / IMAGES).resolve()
    path = (root / str(entry.get("image_path", ""))).resolve()
    if not path.is_relative_to(root) or not isinstance(entry.get("mask"), list):
        raise BadInput(f"edit {name} needs an image_path inside {IMAGES} and a mask.")
    source = read_image(path).rgb
    try:
        return Pictures(source, None, decode_mask(entry["mask"], *source.shape[:2]))
    except BadInput as error:
        raise BadInput(f"edit {name}: {error}") from error
