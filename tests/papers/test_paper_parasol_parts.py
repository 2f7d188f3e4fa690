"""All parts of the PARASOL measurements run, with a tiny model, random encoders and synthetic images."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import sfumato
from papers.parasol import FIGURES
from papers.styled import cells, claims, control, figures, uses
from papers.styled.study import METRICS, STYLES, Cells, Size, Study
from sfumato.metrics import Evaluator
from sfumato.style.describers import Describers
from tests.style.small import save_parasol
from tests.tiny import tiny_image

SIDE = 32


def tiny_images(first: int, count: int = 2) -> list:
    return [np.asarray(tiny_image(SIDE, SIDE, seed=first + n)) for n in range(count)]


@dataclass(frozen=True, eq=False)
class WithoutCorpus(Study):
    """A study of two cells in each style, with synthetic images."""

    @property
    def training(self):
        images = np.stack(tiny_images(200, 2 * len(STYLES))).transpose(0, 3, 1, 2)
        return SimpleNamespace(images=images, table=pa.table({"style": [*STYLES, *STYLES]}))

    @property
    def styles(self):
        paths = {style: self.folder / f"{style}.png" for style in STYLES}
        for path, image in zip(paths.values(), tiny_images(100, len(STYLES)), strict=True):
            Image.fromarray(image).save(path)
        return paths

    def cells(self, count):
        captions = ["red cat", "blue dog"]
        for place, style in enumerate(STYLES[: count // 2]):
            yield Cells(
                style,
                tiny_images(10 * place),
                captions,
                captions,
                tiny_images(10 * place + 5),
                ["cat", "dog"],
                [True, False],
            )


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_sd_folder):
    folder = tmp_path_factory.mktemp("parasol")
    model = sfumato.load(tiny_sd_folder)
    options = save_parasol(folder, model.network, STYLES)
    encoders = {name: options[name] for name in ("content_encoder", "style_encoder")}
    describers = Describers.load(*encoders.values())
    evaluator = Evaluator.load(encoders["content_encoder"], style=describers.style)
    size = Size(steps=2, cells=4, translated=1, controlled=4, known=0, used=4)
    return WithoutCorpus(model, Path(options["parasol"]), encoders, folder, folder, size, evaluator, describers)


def test_cells_have_all_metrics_for_all_methods(study):
    found = cells.measure(replace(study, ablations={"without L_s": study.parasol}))
    variants = {f"{cells.PARASOL}, {name}" for name in (*cells.VARIANTS, "without L_s")}
    assert set(found) == {*cells.WAYS, cells.PARASOL, *variants, *(f"some: {name}" for name in cells.SLOW)}
    for way in (*cells.WAYS, cells.PARASOL, *variants):
        assert set(found[way]) == {*METRICS, "emoji", "trained"}
        assert all(len(values) == study.size.cells for values in found[way].values())
    assert not any(found["unchanged"]["lpips"])
    assert len(found["some: DiffuseIT"]["style_mse"]) == 1
    assert len(claims._of_cells(found)) == 3


def test_control_has_one_correlation_per_cell(study, monkeypatch):
    monkeypatch.setattr(control, "SCALES", (0.0, 7.0))
    monkeypatch.setattr(control, "SHARES", (0.0, 1.0))
    found = control.measure(study)
    per_cell = found["correlations"]
    assert all(len(per_cell[name]["style_mse"]) == study.size.controlled for name in ("style_scale", "lam"))
    assert len(claims._of_control(found)) == 3


def test_uses_are_measured_for_every_cell(study):
    found = uses.measure(study)
    assert len(found["interpolation"]) == len(found["text"]) == study.size.used
    assert len(found["diversity"]["lpips"]) == study.size.used // 2
    assert len(claims._of_uses(found)) == 3


def test_every_figure_is_drawn(study, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "SCALES", (0.0, 8.0))
    monkeypatch.setattr(figures, "_WEIGHTS", (0.0, 1.0))
    figures.draw(study, tmp_path)
    for name in FIGURES:
        with Image.open(tmp_path / name) as opened:
            assert len(opened.convert("RGB").getcolors(maxcolors=1 << 20)) > 50
