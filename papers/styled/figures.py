"""The figures: comparison, lambda, g_s x g_y, lambda x g_s, interpolation of two styles and two contents, and uses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from papers.styled import use_figures
from papers.styled.cells import every_way
from papers.styled.study import STYLES, Cells, Pixels, Study
from sfumato.examples import examples
from sfumato.images import contact_sheet, write_image

SCALES = (0.0, 1.0, 3.0, 5.0, 8.0)
_ROWS = 6
_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw(study: Study, out: Path) -> None:
    """Draw every figure."""
    groups = [each.part(0, 2) for each in study.cells(max(len(STYLES), 2 * len(STYLES)))]
    _save(out / "comparison.png", *_comparison(study, groups[: _ROWS // 2]))
    one = groups[0].part(0, 1)
    _save(out / "lambda.png", *_lambda(study, one))
    _save(out / "scales.png", *_grid(study, one, "style_scale", SCALES, "content_scale", SCALES))
    lams = [round(share * study.size.steps) for share in (1.0, 0.75, 0.5, 0.25, 0.0)]
    _save(out / "lambda_scale.png", *_grid(study, one, "style_scale", SCALES, "lam", lams))
    _save(out / "interpolation.png", *_interpolation(study, groups))
    _save(out / "examples.png", *_examples(study))
    _save(out / "texts.png", *use_figures.texts(study, groups))
    _save(out / "diversity.png", *use_figures.diversity(study, groups[:3]))
    _save(out / "session.png", *use_figures.session(study, out / "session"))


def _comparison(study: Study, groups: list[Cells]) -> tuple[list[list[Pixels]], list[list[str]]]:
    rows, labels = [], []
    for cells in groups:
        made = every_way(study, cells)
        for n in range(len(cells.contents)):
            rows.append([_style(study, cells), *(images[n] for images in made.values()), cells.truths[n]])
            labels.append(["style image", *made, "true drawing"])
    return rows, labels


def _examples(study: Study) -> tuple[list[list[Pixels]], list[list[str]]]:
    """The examples of the package in every style, below the style images."""
    blank: Pixels = np.full((study.side, study.side, 3), 235, np.uint8)
    rows = [[blank, *(np.asarray(Image.open(path)) for path in study.styles.values())]]
    labels = [["", *study.styles]]
    options: dict[str, Any] = {"parasol": str(study.parasol), **study.encoders}
    for example in examples():
        image = np.asarray(Image.open(example.path).convert("RGB").resize((study.side, study.side)))
        inverted = study.model.invert(image, example.source, method="parasol", steps=study.size.steps)
        made = [inverted.edit("", style={str(path): 1.0}, **options).pixels[0] for path in study.styles.values()]
        rows.append([image, *made])
        labels.append([example.source, *([""] * len(made))])
    return rows, labels


def _lambda(study: Study, cells: Cells) -> tuple[list[list[Pixels]], list[list[str]]]:
    inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
    lams = sorted({round(share * study.size.steps) for share in np.linspace(0, 1, 9)})
    made = [inverted.edit("", **study.options(cells, lam=lam)).pixels[0] for lam in lams]
    row = [cells.contents[0], _style(study, cells), *made]
    return [row], [["content image", "style image", *(f"lambda {lam}" for lam in lams)]]


def _grid(
    study: Study, cells: Cells, across: str, columns: Sequence[float], down: str, rows: Sequence[float]
) -> tuple[list[list[Pixels]], list[list[str]]]:
    inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
    names = {"style_scale": "g_s", "content_scale": "g_y", "lam": "lambda"}
    made, labels = [], []
    for value in rows:
        edits = [inverted.edit("", **study.options(cells, **{across: each, down: value})) for each in columns]
        made.append([each.pixels[0] for each in edits])
        labels.append([f"{names[across]} {each:g}, {names[down]} {value:g}" for each in columns])
    return made, labels


def _interpolation(study: Study, groups: list[Cells]) -> tuple[list[list[Pixels]], list[list[str]]]:
    """Rows from one content to another, columns from one style to another, from noise."""
    paths = []
    for number, cells in enumerate(groups[:2]):
        paths.append(study.folder / f"content-{number}.png")
        Image.fromarray(cells.contents[0]).save(paths[-1])
    styles = [study.styles[name] for name in STYLES[:2]]
    base = {"parasol": str(study.parasol), "lam": 0, **study.encoders}
    rows, labels = [], []
    for down in _WEIGHTS:
        row = []
        for across in _WEIGHTS:
            mix = {"style": _weighted(styles, across), "content": _weighted(paths, down)}
            made = study.model.generate(
                groups[0].captions[0], seed=0, methods=[("parasol", base | mix)], steps=study.size.steps
            )
            row.append(made.pixels[0])
        rows.append(row)
        labels.append([f"style {across:g}, content {down:g}" for across in _WEIGHTS])
    return rows, labels


def _weighted(paths: list[Path], share: float) -> dict[str, float]:
    """The option for the first file with weight 1 - share and the second with weight share."""
    return {str(path): weight for path, weight in zip(paths, (1 - share, share), strict=True) if weight}


def _style(study: Study, cells: Cells) -> Pixels:
    return np.asarray(Image.open(study.styles[cells.style]))


def _save(path: Path, rows: list[list[Pixels]], labels: list[list[str]]) -> None:
    side = rows[0][0].shape[0]
    write_image(path, contact_sheet(rows, labels, scale=max(1, 128 // side), paper=(235, 235, 235)))
