"""Edits of held-out images: the captions, and the sheets."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from papers import held_out
from papers.held_out import EDITS, SHOWN, sheet, sources, target
from sfumato.errors import BadInput

RECIPE = Path(__file__).parents[2] / "recipes/emoji-128-diffusion.toml"


def test_sources_and_targets_are_known_to_the_model():
    data = tomllib.loads(RECIPE.read_text())["data"]
    for edit in EDITS:
        for caption in (edit[0], target(edit)):
            name, _, style = caption.rpartition(", ")
            assert name in data["names"], caption
            assert style in data["styles"], caption
        assert edit[0] != target(edit)
    assert len(set(EDITS)) == len(EDITS)
    assert len(SHOWN) == 8


def test_a_source_that_is_not_held_out_is_refused(monkeypatch):
    class Images:
        captions, images = [EDITS[0][0]], np.zeros((1, 3, 8, 8), np.uint8)

    monkeypatch.setattr(held_out.CaptionedImages, "open", lambda *args, **options: Images)
    with pytest.raises(BadInput, match="no held-out image of hamburger, fluent-flat, pig face"):
        sources(Path("data"), 8)


def test_edits_are_below_their_sources(tmp_path):
    images = [np.full((16, 16, 3), 10 * n, np.uint8) for n in range(len(EDITS))]
    sheet(tmp_path / "a.png", images, [each + 5 for each in images], SHOWN)
    found = set(np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))[..., 0].ravel().tolist())
    assert {10 * n for n in SHOWN} | {10 * n + 5 for n in SHOWN} <= found
