"""Held-out cells (content, style) compared with the ground-truth drawing: PARASOL and alternative methods."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from papers.styled.study import STYLES, Cells, Numbers, Pixels, Study, as_tensor, joined
from sfumato.images import read_image, to_tensor
from sfumato.images.colour_match import match_colours

VERSION = 5
Made: TypeAlias = list[Pixels]
PARASOL = "PARASOL"
VARIANTS: dict[str, dict[str, Any]] = {"colour step": {"colour_match": True}, "lambda 0": {"lam": 0}}
"""Options of further edits by PARASOL, by the name of the variant."""


def measure(study: Study) -> Numbers:
    """Metrics of every method and the emoji of its cells, by method; those of `SLOW` on fewer cells."""
    found: dict[str, list[Mapping[str, list[Any]]]] = {}
    translated = dict.fromkeys(STYLES, 0)
    each_style = -(-study.size.translated // len(STYLES))
    for cells in study.cells(study.size.cells):
        known: dict[str, list[Any]] = {"emoji": cells.emoji, "trained": cells.trained}
        for name, made in every_way(study, cells).items():
            found.setdefault(name, []).append(study.measured(cells, made) | known)
        left = study.size.translated - sum(translated.values())
        some = cells.part(0, min(left, each_style - translated[cells.style]))
        if some.contents:
            translated[cells.style] += len(some.contents)
            for name, work in SLOW.items():
                measured = study.measured(some, work(study, some)) | {"emoji": some.emoji}
                found.setdefault(f"some: {name}", []).append(measured)
    return {name: joined(parts) for name, parts in found.items()}


def every_way(study: Study, cells: Cells) -> dict[str, Made]:
    """The images of every method for the same cells; all edits by PARASOL use one inversion."""
    made = {name: work(study, cells) for name, work in WAYS.items()}
    inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
    for name, options in {"": {}, **VARIANTS}.items():
        name = f"{PARASOL}, {name}" if name else PARASOL
        made[name] = inverted.edit("", **study.options(cells, **options)).pixels
    return made


def _unchanged(study: Study, cells: Cells) -> Made:
    return cells.contents


def _colours(study: Study, cells: Cells) -> Made:
    reference = to_tensor(read_image(study.styles[cells.style]))
    matched = match_colours(2 * as_tensor(cells.contents) - 1, reference)
    pixels = ((matched.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return list(pixels)


def _nearest(study: Study, cells: Cells) -> Made:
    """The training image in the target style with the nearest content descriptor."""
    styles = study.training.table["style"].to_pylist()
    images = [image for image, style in zip(study.training.images, styles, strict=True) if style == cells.style]
    known = study.describers.images("content", images)
    own = study.describers.images("content", [each.transpose(2, 0, 1) for each in cells.contents])
    return [images[row].transpose(1, 2, 0) for row in (own @ known.T).argmax(1)]


def _sdedit(study: Study, cells: Cells) -> Made:
    steps = study.size.steps
    inverted = study.model.invert(cells.contents, cells.captions, method="sdedit", steps=steps)
    return inverted.edit(cells.targets, skip=steps // 2, residual=False).pixels


def _edit_friendly(study: Study, cells: Cells) -> Made:
    inverted = study.model.invert(cells.contents, cells.captions, method="edit-friendly", steps=study.size.steps)
    return inverted.edit(cells.targets, residual=False).pixels


def _parasol(study: Study, cells: Cells) -> Made:
    inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
    return inverted.edit("", **study.options(cells)).pixels


def _named(study: Study, cells: Cells) -> Made:
    """PARASOL with the content descriptor of the emoji's name instead of that of the image."""
    made: Made = []
    for content, caption in zip(cells.contents, cells.captions, strict=True):
        inverted = study.model.invert(content, caption, method="parasol", steps=study.size.steps)
        made += inverted.edit("", **study.options(cells, content_text=caption.rpartition(", ")[0])).pixels
    return made


def _diffuseit(study: Study, cells: Cells) -> Made:
    made: Made = []
    for content, caption in zip(cells.contents, cells.captions, strict=True):
        with torch.enable_grad():
            inverted = study.model.invert(content, caption, method="diffuseit", steps=study.size.steps)
            target = str(study.styles[cells.style])
            made += inverted.edit("", target_image=target, skip=study.size.steps // 5, residual=False).pixels
    return made


WAYS: dict[str, Callable[[Study, Cells], Made]] = {
    "unchanged": _unchanged,
    "colour matching": _colours,
    "nearest in the style": _nearest,
    "SDEdit, style in the caption": _sdedit,
    "edit-friendly, style in the caption": _edit_friendly,
}
"""Methods without a PARASOL file."""
SLOW: dict[str, Callable[[Study, Cells], Made]] = {
    "unchanged": _unchanged,
    PARASOL: _parasol,
    f"{PARASOL}, content by its name": _named,
    "DiffuseIT": _diffuseit,
}
"""Methods that are measured on fewer cells, as they edit one image at a time, and those they are compared with."""
