"""The scene report: a model that draws the real scenes gets perfect scores, and blank images score zero."""

import json

import numpy as np
import pytest
import torch

from sfumato.data.scenes import Scenes
from sfumato.data.scenes.captions import RELATIONS
from sfumato.errors import BadInput
from sfumato.metrics import DualEncoder
from sfumato.models.load import load_model
from sfumato.train import scene_report as module
from sfumato.train.dataset import open_images
from sfumato.train.recipe import load_recipe
from tests.train.test_held_out import corpus  # noqa: F401 (a fixture)
from tests.train.test_report import pipeline  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def scenes(corpus):  # noqa: F811
    return Scenes.held_out(corpus, "cells", 32)


@pytest.fixture(scope="module")
def model(pipeline):  # noqa: F811
    return load_model(pipeline[0], "cpu")


@pytest.fixture(scope="module")
def evaluator(pipeline):  # noqa: F811
    return DualEncoder.load(pipeline[0] / "dual_encoder")


def pixels(scenes, count):
    chosen = module.two_objects(scenes, count)
    return chosen, torch.stack([torch.from_numpy(scene.image).float() / 255 for scene in chosen])


def test_real_scenes_get_perfect_scores(model, evaluator, scenes, monkeypatch):
    chosen, real = pixels(scenes, 4)
    prompts = []
    monkeypatch.setattr(
        module, "generate", lambda _, captions, *rest: prompts.extend(captions) or torch.cat([real, real])
    )
    monkeypatch.setattr(module, "found_boxes", lambda *_: [each.box for each in next(turn).objects])
    turn = iter([*chosen, *chosen, *chosen])
    figures = module.scene_report(model, evaluator, scenes, scenes.names, 4, 3.0, 2)
    assert figures["real"] == figures["drawn"] == {"one": 1, "both": 1}
    assert figures["relations"] == {"right": 1, "right of found": 1}
    assert 0 <= figures["word iou"] <= 1
    assert prompts[:4] == [scene.caption for scene in chosen]
    assert all(any(f" {word} " in prompt for word in RELATIONS) for prompt in prompts[4:])


def test_objects_at_wrong_positions_have_no_right_relation(model, evaluator, scenes, monkeypatch):
    chosen, real = pixels(scenes, 4)
    monkeypatch.setattr(module, "generate", lambda *_: torch.cat([real, real]))
    monkeypatch.setattr(module, "found_boxes", lambda *_: [each.box for each in next(turn).objects][::-1])
    turn = iter([*chosen, *chosen, *chosen])
    figures = module.scene_report(model, evaluator, scenes, scenes.names, 4, 3.0, 2)
    assert figures["drawn"] == {"one": 1, "both": 1}
    assert figures["relations"] == {"right": 0, "right of found": 0}


def test_blank_images_contain_no_objects(model, evaluator, scenes, monkeypatch):
    monkeypatch.setattr(module, "generate", lambda *_: torch.ones(6, 3, 32, 32))
    figures = module.scene_report(model, evaluator, scenes, scenes.names, 3, 3.0, 2)
    assert figures["drawn"] == {"one": 0, "both": 0}
    assert figures["relations"] == {"right": 0, "right of found": None}


def test_objects_are_ranked_among_100_captions(model, evaluator, scenes, monkeypatch):
    """The other captions are not limited to the names of the split of the scenes."""
    chosen, real = pixels(scenes, 1)
    compared = []
    monkeypatch.setattr(module, "generate", lambda *_: torch.cat([real, real]))
    monkeypatch.setattr(module, "found_boxes", lambda _, image, *captions: compared.append(captions) or [None, None])
    own = [each.name for each in chosen[0].objects]
    figures = module.scene_report(model, evaluator, scenes, [*own, *map(str, range(150)), "0"], 1, 3.0, 2)
    assert figures["candidates"] == 100
    for captions, others in compared:
        assert len(captions) == 2
        assert len(set(others)) == 98
        assert not set(captions) & set(others)
    few = module.scene_report(model, evaluator, scenes, [*own, "a", "b", "a"], 1, 3.0, 2)
    assert few["candidates"] == 4


def test_word_iou_of_matching_attention_masks_is_one(model, scenes, monkeypatch):
    chosen, _ = pixels(scenes, 2)
    masks = iter([each.mask for scene in chosen for each in scene.objects])
    monkeypatch.setattr(module, "word_mask", lambda *_: torch.from_numpy(next(masks)).float()[None, None])
    assert module.word_ious(model, chosen) == [1.0] * 4
    assert module._iou(torch.tensor([[1, 1, 0, 0]]), np.array([[False, True, True, False]])) == pytest.approx(1 / 3)


def test_more_scenes_than_available_are_refused(scenes):
    with pytest.raises(BadInput, match="lower --count"):
        module.two_objects(scenes, 501)


def test_invalid_count_is_refused_before_the_model_is_loaded(pipeline, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr("sfumato.train.report_options.load_model", None)
    given = [str(pipeline[0]), "--recipe", str(pipeline[1]), "--out", str(tmp_path / "scenes.json"), "--count", "0"]
    with pytest.raises(SystemExit):
        module.main(given)
    assert "--count must be 1 or more, not 0" in capsys.readouterr().err


def test_the_command_writes_its_figures_and_a_grid(pipeline, tmp_path, capsys, monkeypatch):  # noqa: F811
    folder, recipe = pipeline
    monkeypatch.setattr(module.show, "__defaults__", (2,))
    out = ["--out", str(tmp_path / "scenes.json"), "--grid", str(tmp_path / "grid.png")]
    arguments = [str(folder), "--recipe", str(recipe), "--count", "2", "--steps", "1", "--device", "cpu"]
    assert module.main([*arguments, *out]) == 0
    figures = json.loads((tmp_path / "scenes.json").read_text())
    assert json.loads(capsys.readouterr().out) == figures
    names = open_images(load_recipe(recipe), None).table["name"].to_pylist()
    assert figures["candidates"] == min(100, len(set(names)))
    assert (tmp_path / "grid.png").stat().st_size > 0
