"""The scene report: a model that draws the real scenes gets perfect scores, and blank images score zero."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
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

WAYS = ("by caption", "by image")


@pytest.fixture(scope="module")
def scenes(corpus):  # noqa: F811
    return Scenes.held_out(corpus, "cells", 32)


@pytest.fixture(scope="module")
def emoji(pipeline):  # noqa: F811
    return open_images(load_recipe(pipeline[1]), None)


@pytest.fixture(scope="module")
def model(pipeline):  # noqa: F811
    return load_model(pipeline[0], "cpu")


@pytest.fixture(scope="module")
def evaluator(pipeline):  # noqa: F811
    return DualEncoder.load(pipeline[0] / "dual_encoder")


def pixels(scenes, count):
    chosen = module.two_objects(scenes, count)
    return chosen, torch.stack([torch.from_numpy(scene.image).float() / 255 for scene in chosen])


def put_in_order(monkeypatch, chosen, order=1):
    """Let every image contain the objects of its scene, in this or the reversed order."""
    turn = iter(chosen * 6)
    monkeypatch.setattr(module, "found_boxes", lambda *_: [each.box for each in next(turn).objects][::order])


def test_real_scenes_get_perfect_scores(model, evaluator, scenes, emoji, monkeypatch):
    chosen, real = pixels(scenes, 4)
    prompts = []
    monkeypatch.setattr(
        module, "generate", lambda _, captions, *rest: prompts.extend(captions) or torch.cat([real, real])
    )
    put_in_order(monkeypatch, chosen)
    figures = module.scene_report(model, evaluator, scenes, emoji, 4, 3.0, 2)
    for by in WAYS:
        assert figures[by]["real"] == figures[by]["drawn"] == {"one": 1, "both": 1}
        assert figures[by]["relations"] == {"right": 1, "right of found": 1}
    assert 0 <= figures["word iou"] <= 1
    assert prompts[:4] == [scene.caption for scene in chosen]
    assert all(any(f" {word} " in prompt for word in RELATIONS) for prompt in prompts[4:])


def test_objects_at_wrong_positions_have_no_right_relation(model, evaluator, scenes, emoji, monkeypatch):
    chosen, real = pixels(scenes, 4)
    monkeypatch.setattr(module, "generate", lambda *_: torch.cat([real, real]))
    put_in_order(monkeypatch, chosen, -1)
    figures = module.scene_report(model, evaluator, scenes, emoji, 4, 3.0, 2)
    for by in WAYS:
        assert figures[by]["drawn"] == {"one": 1, "both": 1}
        assert figures[by]["relations"] == {"right": 0, "right of found": 0}


def test_blank_images_contain_no_objects(model, evaluator, scenes, emoji, monkeypatch):
    monkeypatch.setattr(module, "generate", lambda *_: torch.ones(6, 3, 32, 32))
    figures = module.scene_report(model, evaluator, scenes, emoji, 3, 3.0, 2)
    for by in WAYS:
        assert figures[by]["drawn"] == {"one": 0, "both": 0}
        assert figures[by]["relations"] == {"right": 0, "right of found": None}


def test_objects_are_compared_with_98_others_of_their_style_in_any_split(scenes):
    chosen, _ = pixels(scenes, 1)
    own = [each.name for each in chosen[0].objects]
    many, few = (SimpleNamespace(table=listed([*own, *some], chosen[0].style)) for some in (map(str, range(150)), "ab"))
    rows = module._candidates(many, chosen[0], 0)
    assert len(rows) == len(set(rows)) == 100
    assert [many.table["name"][row].as_py() for row in rows[:2]] == own
    assert {many.table["style"][row].as_py() for row in rows} == {chosen[0].style}
    assert module._candidates(many, chosen[0], 1) != rows, "another choice for another scene"
    assert len(module._candidates(few, chosen[0], 0)) == 4


def listed(names, style):
    """A table of `names` in two styles."""
    return pa.table({"name": names * 2, "style": ["another"] * len(names) + [style] * len(names)})


def test_features_are_those_of_the_captions_and_images(evaluator, emoji):
    rows = [3, 1]
    captions, images = ([each[row] for row in rows] for each in (emoji.captions, emoji.images))
    torch.testing.assert_close(module._caption_features(evaluator, emoji, rows), evaluator.text_features(captions))
    pixels = torch.from_numpy(np.stack(images)).float() / 255
    torch.testing.assert_close(module._image_features(evaluator, emoji, rows), evaluator.image_features(pixels))


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
    emoji = open_images(load_recipe(recipe), None)
    assert figures["candidates"] == min(100, len(set(emoji.table["name"].to_pylist())))
    assert (tmp_path / "grid.png").stat().st_size > 0
