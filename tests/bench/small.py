"""A tiny synthetic benchmark in PIE-Bench's layout, settings for a tiny model, and a tiny evaluator."""

import json

import numpy as np
from PIL import Image

from sfumato.bench.items import Item
from sfumato.bench.piebench import IMAGES, MAPPING
from sfumato.bench.settings import Setting
from sfumato.metrics import Evaluator
from tests.metrics.test_text import save_clip
from tests.tiny import tiny_image

SIDE = 32
OURS = Setting("ours", "edit-friendly", {"steps": 3, "skip": 1, "source_guidance_scale": 1.5, "guidance_scale": 2.0})
LEDITS = Setting(
    "LEDITS++", "diffusers-ledits++", {"steps": 3, "skip": 1, "source_guidance_scale": 1.0, "guidance_scale": 2.0}
)
SDEDIT = Setting("img2img", "diffusers-img2img", {"steps": 3, "skip": 1, "guidance_scale": 2.0})
ABOUT = {"benchmark": "small", "model": "tiny"}


def runs(mask):
    """bool [h,w] -> [start, length, ...] over the pixels row by row."""
    flat = np.concatenate([[False], mask.ravel(), [False]])
    starts, ends = np.flatnonzero(flat[1:] & ~flat[:-1]), np.flatnonzero(~flat[1:] & flat[:-1])
    return [int(x) for start, end in zip(starts, ends, strict=True) for x in (start, end - start)]


def square():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[6:20, 8:25] = True
    return mask


def entry(name, kind, source, target, mask):
    return {
        "image_path": f"{kind}_some_edits/{name}.jpg",
        "original_prompt": source,
        "editing_prompt": target,
        "editing_instruction": "change it",
        "editing_type_id": str(kind),
        "blended_word": "apple cat",
        "mask": runs(mask),
    }


def layout(folder, **more):
    """Three edits of two kinds; `more` adds entries without images."""
    entries = {
        "000000000000": entry("000000000000", 0, "a red [apple]", "a red [cat]", square()),
        "111000000001": entry("111000000001", 1, "a dog", "a [green] dog", square()),
        "111000000002": entry("111000000002", 1, "a blue star", "a red heart", np.ones((SIDE, SIDE), bool)),
    }
    for n, each in enumerate(entries.values()):
        path = folder / IMAGES / each["image_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny_image(SIDE, SIDE, seed=n).save(path, quality=95)
    (folder / MAPPING).write_text(json.dumps(entries | more))
    return folder


def evaluator(folder):
    """An evaluator that uses one random dual encoder for all metrics."""
    save_clip(folder)
    return Evaluator.load(folder)


def blurred(pixels):
    """A blurred copy of the source, used as an edit."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((SIDE // 4, SIDE // 4)).resize((SIDE, SIDE)))


def broken(name="broken", error=None):
    def load():
        raise error or OSError("the disk is on fire")

    return Item(name, "random", "", "a", "b", load)
