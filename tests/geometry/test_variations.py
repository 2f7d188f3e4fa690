"""Variations along directions equal the corresponding edits."""

from dataclasses import replace

import numpy as np
import pytest

import sfumato
from sfumato.api.finding import search_directions
from sfumato.api.variations import variations
from sfumato.errors import BadInput
from sfumato.methods.ddim import DDIMParams
from sfumato.methods.registry import METHODS
from tests.tiny import tiny_image

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
