"""All parts of the PARASOL measurements run, with a tiny model, random encoders and synthetic images."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import sfumato
from papers.parasol import FIGURES
from papers.styled import ablations, cells, claims, control, figures, references, uses
from papers.styled.study import METRICS, STYLES, Cells, Size, Study
from sfumato.metrics import Evaluator
from sfumato.style.describers import Describers
from sfumato.style.tokens import Parasol
from tests.style.small import random_tokens, save_parasol
from tests.tiny import tiny_image

pytestmark = pytest.mark.slow

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


def save_drawings(folder):
    """Training drawings of two emoji in every style, for the search of the figures."""
    folder.mkdir()
    lines = []
    for n, style in enumerate([*STYLES, *STYLES]):
        tiny_image(SIDE, SIDE, seed=300 + n).save(folder / f"{n}.png")
        name = ("cat", "dog")[n // len(STYLES)]
        about = {"name": name, "style": style, "split": "train", "skin_tone": "", "subgroup": "animal"}
        lines.append(json.dumps({"file_name": f"{n}.png", "text": f"{name}, {style}", **about}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_sd_folder):
    folder = tmp_path_factory.mktemp("parasol")
    model = sfumato.load(tiny_sd_folder)
    options = save_parasol(folder, model.network, STYLES)
    encoders = {name: options[name] for name in ("content_encoder", "style_encoder")}
    describers = Describers.load(*encoders.values())
    evaluator = Evaluator.load(encoders["content_encoder"], style=describers.style)
    size = Size(steps=2, cells=4, translated=1, controlled=4, known=0, used=4, ablated=4)
    data = save_drawings(folder / "data")
    return WithoutCorpus(model, Path(options["parasol"]), encoders, data, folder, size, evaluator, describers)


def test_cells_have_all_metrics_for_all_methods(study):
    found = cells.measure(study)
    variants = {f"{cells.PARASOL}, {name}" for name in cells.VARIANTS}
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


def test_reference_images_have_the_style_of_their_cells(study):
    found = references.measure(study)
    assert set(found) == {references.TRUE, references.OTHER}
    assert all(set(each) == {*METRICS, "emoji"} for each in found.values())
    assert not any(found[references.TRUE]["target_mse"])
    assert all(found[references.OTHER]["target_mse"])
    assert len(found[references.OTHER]["sifid"]) == study.size.cells
    cell = next(study.cells(2))
    in_style = study.training.images[[row for row, name in enumerate([*STYLES, *STYLES]) if name == cell.style]]
    for image in references._others(study, cell, np.random.default_rng(0)):
        assert any(np.array_equal(image.transpose(2, 0, 1), each) for each in in_style)


def test_content_scale_is_measured_on_images_from_the_same_noise(study, monkeypatch):
    monkeypatch.setattr(control, "SCALES", (0.0, 0.0, 7.0))
    found = control.from_noise(study)
    first, second, last = (at["content_mse"] for at in found["table"])
    assert first == second
    assert all(one != other for one, other in zip(first, last, strict=True))
    assert len(found["correlations"]["content_mse"]) == len(found["emoji"]) == study.size.controlled


def test_ablations_are_edits_by_their_own_files_in_the_same_cells(study, tmp_path):
    network, other = study.model.network, tmp_path / "parasol.safetensors"
    replace(
        Parasol.load(study.parasol), tokens=random_tokens(network.token_width, seed=5, unet=network.unet)
    ).save(other)  # fmt: skip
    files = {ablations.ALL: study.parasol, "without L_s": other, "before the training": study.parasol}
    found = ablations.measure(replace(study, ablations=files))
    assert list(found) == list(files)
    assert found["before the training"] == found[ablations.ALL]
    assert found["without L_s"]["style_mse"] != found[ablations.ALL]["style_mse"]
    compared = cells.measure(study)[cells.PARASOL]
    assert found[ablations.ALL]["target_mse"][:2] == pytest.approx(compared["target_mse"][:2])
    assert ablations.measure(study) == {}


def test_uses_are_measured_for_every_cell(study):
    found = uses.measure(study)
    assert len(found["interpolation"]) == len(found["text"]) == study.size.used
    assert len(found["diversity"]["lpips"]) == study.size.used // 2
    assert len(claims._of_uses(found)) == 3


def test_diversity_compares_contents_of_all_styles_within_one_style(tmp_path):
    """A generated image states its style, content and seed; LPIPS is 1 between different contents and 0.25 else."""
    styles = {style: tmp_path / f"{style}.png" for style in STYLES}
    drawn = {style: [n, 10 + n, 20 + n] for n, style in enumerate(STYLES)}  # content k of a group is 10 k + style
    groups = [
        Cells(
            style, [np.full((2, 2, 3), level, np.uint8) for level in levels], ["a"] * 3, [], [], [*map(str, levels)], []
        )
        for style, levels in drawn.items()
    ]
    seen = []

    def generate(caption, seed, methods, steps):
        (style,), (content,) = (methods[0][1][name] for name in ("style", "content"))
        level = int(np.asarray(Image.open(content))[0, 0, 0])
        number = STYLES.index(Path(style).stem)
        return SimpleNamespace(pixels=[np.full((2, 2, 3), [number, level, each], np.uint8) for each in seed])

    def evaluator(one, other):
        (style, content, seed), (with_style, with_content, with_seed) = (
            (255 * each[0, :, 0, 0]).round().int().tolist() for each in (one, other)
        )
        assert style == with_style, "only images of one style are compared"
        assert seed != with_seed
        seen.append((style, content))
        return {"lpips": torch.tensor(0.25 if content == with_content else 1.0)}

    described = SimpleNamespace(images=lambda modality, images: np.ones((len(images), 2), np.float32))
    known = {"model": SimpleNamespace(generate=generate), "evaluator": evaluator, "describers": described}
    known |= {"parasol": "", "encoders": {}, "styles": styles, "folder": tmp_path, "size": Size(used=16)}
    found = uses.diversity(SimpleNamespace(**known), groups)
    assert found["emoji"] == ["0", "1", "2", "3", "4", "5", "10", "11"]
    assert {style for style, _ in seen} == set(range(6))
    assert found["lpips"] == [0.25] * 8
    assert found["lpips between contents"] == [1.0] * 8


def test_every_figure_is_drawn(study, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "SCALES", (0.0, 8.0))
    monkeypatch.setattr(figures, "_WEIGHTS", (0.0, 1.0))
    figures.draw(study, tmp_path)
    for name in FIGURES:
        with Image.open(tmp_path / name) as opened:
            assert len(opened.convert("RGB").getcolors(maxcolors=1 << 20)) > 50
