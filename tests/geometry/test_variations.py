"""Variations along directions equal the corresponding edits."""

import json
from dataclasses import replace

import numpy as np
import pytest

import sfumato
from sfumato.api.finding import search_directions
from sfumato.api.variations import variations
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.options.inversions import DDIMParams
from tests.tiny import tiny_image, tiny_sd

GAMMAS = (-1.0, 0.0, 2.0)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("time", [1.0, 0.5])
@pytest.mark.parametrize("layout", ["sd", "ddpm"])
def test_variations_equal_the_edits(tiny_folder, tmp_path, layout, time, normalise):
    model = sfumato.load(str(tiny_folder(layout)), "cpu")
    found = search_directions(
        model, n=2, samples=2, steps=4, time=time, size={"sd": (32, 24), "ddpm": (30, 22)}[layout]
    )
    found.save(tmp_path / "d.safetensors")
    inverted = model.invert(tiny_image(30, 22), method="pullback", steps=4, resolution="full")
    rows = list(variations(inverted, found, GAMMAS, normalise=normalise))
    assert len(rows) == 2
    options = {"directions": str(tmp_path / "d.safetensors"), "time": time, "normalise": normalise}
    for name, row in zip(found.names, rows, strict=True):
        for gamma, pixels in zip(GAMMAS, row, strict=True):
            edit = inverted.edit(direction=name, gamma=gamma, **options).pixels[0].astype(int)
            assert abs(edit - pixels).mean() < 0.1
            assert np.quantile(abs(edit - pixels), 0.99) <= 1
    assert (rows[0][0] != rows[0][2]).any()


def test_edit_by_zero_is_evaluated_once(tiny_sd_folder):
    """It is the same for all directions; a step length that is given twice is evaluated once too."""
    model = sfumato.load(str(tiny_sd_folder), "cpu")
    found = search_directions(model, n=3, samples=2, steps=4, size=(32, 24))
    inverted = model.invert(tiny_image(30, 22), method="pullback", steps=4, resolution="full")

    def rows(gammas):
        """The images of the second and third direction, and the rows that the network evaluates for them."""
        made = variations(inverted, found, gammas)
        first = next(made)
        with model.network.counting() as count:
            return [first, *made], count.samples

    (plain, alone), (shown, together) = rows([2.0]), rows([0.0, 2.0, 0.0, 2.0, -0.0])
    assert together == alone > 0
    for row, (moved,) in zip(shown, plain, strict=True):
        assert abs(row[1].astype(int) - moved).max() <= 1
        assert (row[3] == row[1]).all()
        assert all((row[n] == shown[0][0]).all() for n in (0, 2, 4))
    assert rows([0.0])[1] == 0


@pytest.mark.parametrize("settings", [{"shots": 3}, {"normalise": False}])
def test_shots_and_normalisation_are_those_of_the_model(settings, tiny_sd_folder, tmp_path):
    model = sfumato.load(str(tiny_sd_folder), "cpu")
    found = search_directions(model, n=2, samples=2, steps=4, size=(32, 24))
    found.save(tmp_path / "d.safetensors")
    options = {"directions": str(tmp_path / "d.safetensors"), "steps": 4, "resolution": "full", "methods": "pullback"}
    model.network.settings["pullback"] = settings
    inverted = model.plan(tiny_image(30, 22), **options).invert().result
    _, shown = variations(inverted, found, GAMMAS)
    edits = [inverted.edit(direction="2", gamma=gamma).pixels[0].astype(int) for gamma in GAMMAS]
    for edit, pixels in zip(edits, shown, strict=True):
        assert np.quantile(abs(edit - pixels), 0.99) <= 1
    model.network.settings["pullback"] = {}
    plain = model.plan(tiny_image(30, 22), **options).invert().result.edit(direction="2", gamma=2.0).pixels[0]
    assert abs(edits[2] - plain).max() > 10, "the settings do not matter to this test"


def test_several_images_and_no_gamma_are_refused(tiny_sd_folder):
    model = sfumato.load(str(tiny_sd_folder), "cpu")
    found = search_directions(model, n=1, samples=2, steps=4, size=(32, 24))
    images = [tiny_image(30, 22), tiny_image(30, 22, seed=1)]
    several = model.invert(images, method="pullback", steps=4, resolution="full")
    with model.network.counting() as count, pytest.raises(BadInput, match="on one inverted image, not on 2"):
        variations(several, found, [1.0, 2.0])
    assert not count.calls
    one = model.invert(images[0], method="pullback", steps=4, resolution="full")
    with pytest.raises(BadInput, match="at least one gamma"):
        variations(one, found, [])


def test_normalisation_at_zero_terminal_snr_is_refused(tmp_path):
    """There the prediction of x_0 does not depend on x_t; without the normalisation the image changes."""
    folder = tiny_sd(tmp_path / "sd")
    config = folder / "scheduler" / "scheduler_config.json"
    changed = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    model = sfumato.load(str(folder), "cpu")
    found = search_directions(model, n=1, samples=2, steps=4, size=(32, 24))
    options = {"method": "pullback", "steps": 4, "resolution": "full"}
    inverted = model.invert(tiny_image(30, 22), **options)
    with pytest.raises(BadInput, match="zero terminal SNR"):
        variations(inverted, found, [0.0, 8.0])
    ((same, moved),) = variations(inverted, found, [0.0, 8.0], normalise=False)
    assert (same != moved).any()


def test_variations_use_the_settings_of_the_model(tiny_sd_folder, tmp_path):
    """Skipped steps, boost, kappa and rank of the model's settings; the boost begins before the edited step."""
    model = sfumato.load(str(tiny_sd_folder), "cpu")
    found = search_directions(model, n=2, samples=2, steps=4, time=0.5, size=(32, 24))
    found.save(tmp_path / "d.safetensors")
    model.network.settings["pullback"] = {"skip": 1, "boost": 0.9, "kappa": 0.5, "rank": 3}
    options = {"directions": str(tmp_path / "d.safetensors"), "time": 0.5, "steps": 4, "resolution": "full"}
    inverted = model.plan(tiny_image(30, 22), methods="pullback", **options).invert().result
    edit = inverted.edit(direction="2", gamma=2.0).pixels[0].astype(int)
    _, (shown,) = variations(inverted, found, [2.0])
    assert np.quantile(abs(edit - shown), 0.99) <= 1
    skipping = replace(inverted, params=replace(inverted.params, skip=3))
    with pytest.raises(BadInput, match="skips 3 steps, but these directions belong to step 2"):
        next(variations(skipping, found, GAMMAS))
    other = replace(inverted, method=METHODS.find("ddim"), params=DDIMParams())
    with pytest.raises(BadInput, match="inverted for the method pullback, not ddim"):
        next(variations(other, found, GAMMAS))
