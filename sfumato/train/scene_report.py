"""Evaluate a model on scenes of two objects that it was not trained on.

    python -m sfumato.train.scene_report emoji --recipe recipes/emoji-128-diffusion.toml --out scenes.json

Measured on the held-out scenes of the split "cells" (`sfumato.data.scenes.Scenes.held_out`):

- objects: images are generated from captions "A and B, STYLE". Each connected component of the image is compared, in
  the evaluator's features, with 100 emoji of the style: the two of the caption, and 98 others that the recipe selects
  in any split (`sfumato.metrics.objects`). An object counts as found if it is the nearest one to a component. They are
  compared by their captions, and by their images in the corpus. The same measurement on real scenes gives the upper
  limit of the evaluator.
- relations: images are generated from captions such as "A left of B, STYLE". An image is right if both objects are
  found and their positions match the caption.
- words: intersection over union (IoU) of the true masks of the objects and the cross-attention maps of their words in
  real scenes. The maps are summed over latents x_t from the middle of the schedule and thresholded at a fraction of
  their range (`sfumato.shifts.words`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.core.guidance import classifier_free
from sfumato.data.dataset import CaptionedImages
from sfumato.data.scenes import Scene, Scenes
from sfumato.data.scenes.captions import related, relation
from sfumato.errors import BadInput
from sfumato.files import write_text
from sfumato.inversion.edit_friendly import independent_latents
from sfumato.metrics import DualEncoder
from sfumato.metrics.objects import found_boxes
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.layout import word_layers
from sfumato.shifts.alignment import token_weights
from sfumato.shifts.regions import LEVELS
from sfumato.shifts.words import WordMaps, word_mask
from sfumato.train.dataset import open_images, save_grid
from sfumato.train.generated import generate
from sfumato.train.report_options import opened, report_parser

#: Number of other emoji that those of a scene are compared with.
_OTHERS = 98
_CELLS_THRESHOLD = 0.3


def scene_report(
    model: DiffusionModel,
    evaluator: DualEncoder,
    scenes: Scenes,
    emoji: CaptionedImages,
    count: int,
    guidance: float,
    steps: int,
) -> dict[str, Any]:
    """Evaluate a model on the first `count` scenes of two objects; see the module docstring.

    Args:
        model: the pipeline.
        evaluator: the dual encoder that finds the objects.
        scenes: held-out scenes.
        emoji: images of single emoji, with those of the scenes, from which the others are drawn for each scene.
        count: number of scenes.
        guidance: guidance scale of the generated images.
        steps: sampling steps of the generated images.

    Returns:
        `scenes`: number of scenes; `candidates`: number of emoji that are compared, 100 or all of the style if there
        are fewer (the smallest number over the scenes); `by caption` and `by image`, each with `real` and `drawn`:
        fraction of real and generated images in which at least "one" or "both" objects are found; and `relations`:
        fraction of images that are "right", and of those with both objects found ("right of found"); `word iou`: mean
        IoU.
    """
    chosen = two_objects(scenes, count)
    listed = [scene.caption for scene in chosen]
    placed = [_related_caption(scene) for scene in chosen]
    drawn = generate(model, [*listed, *placed], scenes.size, guidance, steps)
    real = torch.stack([_pixels(scene) for scene in chosen])
    images = {"real": real, "drawn": drawn[: len(chosen)], "placed": drawn[len(chosen) :]}
    candidates = [_candidates(emoji, scene, i) for i, scene in enumerate(chosen)]
    figures: dict[str, Any] = {"scenes": len(chosen), "candidates": min(map(len, candidates))}
    for by, features in {"by caption": _caption_features, "by image": _image_features}.items():
        compared = [features(evaluator, emoji, rows) for rows in candidates]
        figures[by] = _found_shares(evaluator, images, chosen, compared)
    return figures | {"word iou": _mean(word_ious(model, chosen))}


def _candidates(emoji: CaptionedImages, scene: Scene, seed: int) -> list[int]:
    """Rows of the emoji that are compared: those of the scene, and at most `_OTHERS` others of its style."""
    table = emoji.table
    styles, names = table["style"].to_pylist(), table["name"].to_pylist()
    rows = {name: row for row, (name, style) in enumerate(zip(names, styles, strict=True)) if style == scene.style}
    own = [each.name for each in scene.objects]
    others = np.random.default_rng(seed).permutation(sorted(set(rows) - set(own)))[:_OTHERS].tolist()
    return [rows[name] for name in [*own, *others]]


def _caption_features(evaluator: DualEncoder, emoji: CaptionedImages, rows: Sequence[int]) -> Tensor:
    return evaluator.text_features([emoji.caption(row) for row in rows])


def _image_features(evaluator: DualEncoder, emoji: CaptionedImages, rows: Sequence[int]) -> Tensor:
    return evaluator.image_features(torch.from_numpy(emoji.pixels(rows)).float() / 255)


def _found_shares(
    evaluator: DualEncoder, images: Mapping[str, Tensor], scenes: Sequence[Scene], compared: Sequence[Tensor]
) -> dict[str, Any]:
    """Shares of found objects and right relations, with the features of the candidates of every scene."""
    boxes = {
        name: [found_boxes(evaluator, image, each[:2], each[2:]) for image, each in zip(some, compared, strict=True)]
        for name, some in images.items()
    }
    right = [_right(scene, found) for scene, found in zip(scenes, boxes["placed"], strict=True)]
    of_found = [r for r, found in zip(right, boxes["placed"], strict=True) if None not in found]
    return {
        "real": _shares(boxes["real"]), "drawn": _shares(boxes["drawn"]),
        "relations": {"right": _mean(right), "right of found": _mean(of_found) if of_found else None},
    }  # fmt: skip


def two_objects(scenes: Scenes, count: int) -> list[Scene]:
    """The first `count` scenes of two objects.

    Raises:
        BadInput: `scenes` contains fewer.
    """
    found = [scene for scene in map(scenes.scene, range(scenes.count)) if len(scene.objects) == 2]
    if len(found) < count:
        raise BadInput(f"{len(found)} of the held-out scenes have two objects, not {count}: lower --count.")
    return found[:count]


@torch.no_grad()
def word_ious(model: DiffusionModel, scenes: Sequence[Scene], threshold: float = _CELLS_THRESHOLD) -> list[float]:
    """Intersection over union of each object's mask and the thresholded cross-attention map of its name.

    Args:
        model: the pipeline.
        scenes: the scenes.
        threshold: fraction of the range of a map above which its pixels count.

    Returns:
        One value per object, in the order of the scenes.
    """
    ious = []
    total = len(model.schedule)
    timesteps = [round(total * (0.2 + 0.6 * k / (LEVELS - 1))) for k in range(LEVELS)]
    for i, scene in enumerate(scenes):
        x0 = model.encode(_pixels(scene)[None].to(model.device) * 2 - 1)
        condition = model.condition([scene.caption]).repeat(LEVELS)
        x_t = independent_latents(classifier_free(model, None, (1.0,)), x0, timesteps, [i])[:-1, 0]
        layers, cells = word_layers(model.unet, (x0.shape[-2], x0.shape[-1]))
        assert condition.tokens is not None
        tokens = condition.tokens.shape[1]
        weights = [token_weights(condition.prompts, [each.name], [1.0], tokens, 0.0) for each in scene.objects]
        taps = [WordMaps(layers, each, cells) for each in weights]
        model.predict(x_t, torch.tensor(timesteps, device=x0.device), condition, taps)
        for each, tap in zip(scene.objects, taps, strict=True):
            seen = torch.stack(list(tap.maps.values())).sum(dim=(0, 1), keepdim=True)[0]
            ious.append(_iou(word_mask(seen, each.mask.shape, threshold)[0, 0], each.mask))
    return ious


def _iou(found: Tensor, mask: np.ndarray) -> float:
    a, b = found.cpu().bool(), torch.from_numpy(mask)
    return float((a & b).sum() / (a | b).sum())


def _related_caption(scene: Scene) -> str:
    names, boxes = zip(*((each.name, each.box) for each in scene.objects), strict=True)
    return related(names, boxes, scene.ground, scene.style)


def _right(scene: Scene, found: Sequence[Any]) -> bool:
    if None in found:
        return False
    return relation(*found) == relation(*(each.box for each in scene.objects))


def _pixels(scene: Scene) -> Tensor:
    return torch.from_numpy(scene.image).float() / 255


def _shares(found: Sequence[Sequence[Any]]) -> dict[str, float]:
    counts = [sum(box is not None for box in boxes) for boxes in found]
    return {"one": _mean([n >= 1 for n in counts]), "both": _mean([n == 2 for n in counts])}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a pipeline folder and write the results as JSON."""
    parser = report_parser("Evaluate a pipeline on scenes of two objects.", "selects emoji and styles")
    parser.add_argument("--count", type=int, default=200, help="number of scenes (default 200)")
    choice = parser.parse_args(argv)
    try:
        _, model, evaluator, recipe = opened(choice)
        data = recipe.data
        scenes = Scenes.held_out(
            data.folder, "cells", data.size, styles=data.styles, groups=data.groups, subgroups=data.subgroups,
            names=data.names, min_styles=data.min_styles, tones=data.tones,
        )  # fmt: skip
        emoji = open_images(recipe, None)
        figures = scene_report(model, evaluator, scenes, emoji, choice.count, choice.guidance_scale, choice.steps)
        write_text(choice.out, json.dumps(figures, indent=1) + "\n")
        if choice.grid:
            show(model, scenes, choice.grid, choice.guidance_scale, choice.steps)
    except BadInput as error:
        parser.exit(2, f"{error}\n")
    print(json.dumps(figures, indent=1))
    return 0


def show(model: DiffusionModel, scenes: Scenes, path: Path, guidance: float, steps: int, count: int = 16) -> None:
    """Save a grid of the first `count` real scenes of two objects above images generated from their captions."""
    chosen = two_objects(scenes, count)
    real = torch.stack([_pixels(scene) for scene in chosen]) * 2 - 1
    drawn = generate(model, [scene.caption for scene in chosen], scenes.size, guidance, steps) * 2 - 1
    save_grid(path, [real, drawn], f"real above generated, {steps} steps, guidance scale {guidance}")


if __name__ == "__main__":
    raise SystemExit(main())
