"""Grids of `sfumato.api.sweep` over arguments of the edit, on a tiny model."""

import numpy as np
import pytest

import sfumato as library
from sfumato.api.sweep import sweep
from sfumato.errors import BadInput
from sfumato.metrics import Evaluator
from tests.tiny import tiny_image


def as_planned(model, image, trial, **options):
    """Whether the edit of a trial equals that of a plan with the same options."""
    (pixels,) = model.plan(image, "red cat", "green dog", **options).run().result.pixels
    return np.array_equal(trial.pixels, pixels)


@pytest.mark.parametrize(
    ("grid", "fixed", "inversions"),
    [
        ({"seed": [0, 3], "skip": [0, 1]}, {}, 2),
        ({"resolution": ["full", 32], "seed": [1, 2]}, {}, 4),
        ({"tiles": [False, True]}, {"resolution": "full"}, 2),
        ({"mask_words": ["", "cat", "red"]}, {"mask_threshold": None}, 1),
        ({"mask_difference": [False, True]}, {"seed": 4}, 1),
        ({"mask_threshold": [0.9, 1.1]}, {"mask_difference": True}, 1),
    ],
)
def test_arguments_of_the_edit_may_be_in_the_grid(tiny_sd_folder, grid, fixed, inversions, monkeypatch):
    model, image, begun = library.load(str(tiny_sd_folder)), tiny_image(48, 48), []
    invert = library.api.plan.Plan.invert
    monkeypatch.setattr(library.api.plan.Plan, "invert", lambda plan: begun.append(plan) or invert(plan))
    common = {"steps": 2, "guidance_scale": 4.0, **fixed}
    trials = list(sweep(model, image, "red cat", "green dog", grid=grid, evaluator=Evaluator.load(), **common))
    assert len(begun) == inversions
    assert len({trial.pixels.tobytes() for trial in trials}) == len(trials) > 1
    for trial in trials:
        assert as_planned(model, image, trial, **common | trial.options)


def test_scores_at_several_resolutions_equal_separate_sweeps(tiny_sd_folder):
    model, image, evaluator = library.load(str(tiny_sd_folder)), tiny_image(64, 48), Evaluator.load()
    grid, edit = {"resolution": ["full", 32]}, {"steps": 2, "guidance_scale": 4.0}
    mask = np.zeros((48, 64), np.uint8)
    mask[8:40, 8:40] = 255
    found = list(sweep(model, image, "red cat", "green dog", grid=grid, mask=mask, evaluator=evaluator, **edit))
    for trial in found:
        at = {"skip": [trial.result.recipes[0]["skip"]]}
        options = edit | trial.options | {"mask": mask, "evaluator": evaluator}
        (alone,) = sweep(model, image, "red cat", "green dog", grid=at, **options)
        assert trial.scores == pytest.approx(alone.scores, nan_ok=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"grid": {"batch": [1, 2]}}, "batch is the same for all settings"),
        ({"grid": {"mask": [None, "mask.png"]}}, "mask is the same for all settings"),
        ({"grid": {"source": ["red", "cat"]}}, "source is the same for all settings"),
        ({"grid": {"shifts": [[], []]}}, "more than once"),
        ({"grid": {"methods": ["ddim", "sdedit"]}}, "methods is no option of a sweep"),
        ({"grid": {"skip": [1]}, "methods": ["ddim"]}, "methods is no option of a sweep"),
        ({"grid": {"skip": [1]}, "images": []}, "images is no option of a sweep"),
        ({"grid": {"method": ["ddim", "sdedit"]}}, "method"),
        ({"grid": {"seed": [0, 1]}, "seed": 2}, "seed is in the grid and fixed"),
        ({"grid": {"seed": [[0, 1]]}}, "seed must be an integer"),
        ({"grid": {"seed": [0, -1]}}, "seed must be an integer"),
        ({"grid": {"skip": [[1, 2]]}}, "skip must be"),
        ({"grid": {"resolution": [[64]]}}, "resolution must be"),
        ({"grid": {"mask_words": ["cat", "star"]}}, '"star" of mask_words is in neither prompt'),
        ({"grid": {"mask_threshold": [0.2, 0.5]}}, "give one of them"),
        ({"grid": {"mask_words": [["cat"], "red"]}}, "mask_words must be text"),
        ({"grid": ["skip"]}, "must be a dictionary of lists of values by name"),
        ({"grid": {"skip": 3}}, "values of skip in the grid must be a list, not 3"),
        ({"grid": {"method": "ddim"}}, "values of method in the grid must be a list"),
        ({"grid": {"skip": [1]}, "source": ["red cat"]}, "source prompt of a sweep must be text"),
        ({"grid": {"skip": [1]}, "target": None}, "target prompt of a sweep must be text"),
        ({"grid": {"skip": [1]}, "method": 3}, "name of a method must be text"),
    ],
)
def test_invalid_grids_are_refused(tiny_sd_folder, options, sentence):
    model = library.load(str(tiny_sd_folder))
    usual = {"source": "red cat", "target": "green dog", "evaluator": Evaluator.load(), "steps": 4}
    with model.network.counting() as count, pytest.raises(BadInput, match=sentence):
        sweep(model, tiny_image(32, 32), **usual | options)
    assert count.samples == 0
