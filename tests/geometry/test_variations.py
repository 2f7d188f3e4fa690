"""A sheet of directions shows what edits along them would give."""

import numpy as np
import pytest

import sfumato
from sfumato.api.finding import find
from sfumato.api.variations import variations
from tests.tiny import tiny_picture

GAMMAS = (-1.0, 0.0, 2.0)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("time", [1.0, 0.5])
@pytest.mark.parametrize("layout", ["sd", "ddpm"])
def test_they_are_the_edits(tiny_folder, tmp_path, layout, time, normalise):
    model = sfumato.load(str(tiny_folder(layout)), "cpu")
    found = find(model, n=2, samples=2, steps=4, time=time, size={"sd": (32, 24), "ddpm": (30, 22)}[layout])
    found.save(tmp_path / "d.safetensors")
    inverted = model.invert(tiny_picture(30, 22), method="pullback", steps=4, resolution="full")
    rows = list(variations(inverted, found, GAMMAS, normalise=normalise))
    assert len(rows) == 2
    options = {"directions": str(tmp_path / "d.safetensors"), "time": time, "normalise": normalise}
    for name, row in zip(found.names, rows, strict=True):
        for gamma, pixels in zip(GAMMAS, row, strict=True):
            edit = inverted.edit(direction=name, gamma=gamma, **options).pixels[0].astype(int)
            assert abs(edit - pixels).mean() < 0.1
            assert np.quantile(abs(edit - pixels), 0.99) <= 1
    assert (rows[0][0] != rows[0][2]).any()
