"""Edits with painted masks: grey levels blend edit and source, and recipes contain the mask's name and hash."""

import pickle

import numpy as np
import pytest
from PIL import Image

from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.images import read_recipe, transparent_parts
from tests.contract.images import IMAGE

EDIT = {"skip": 0, "guidance_scale": 9}
SOURCE = np.asarray(IMAGE)
HEIGHT, WIDTH = SOURCE.shape[:2]


@pytest.fixture(scope="module")
def cat(sd):
    return sd.invert(IMAGE, "red cat", steps=6)


def ramp(first: int, last: int) -> np.ndarray:
    """A mask whose levels increase from left to right, uint8 [h,w]."""
    return np.tile(np.linspace(first, last, WIDTH).astype(np.uint8), (HEIGHT, 1))


def test_grey_mask_levels_blend_edit_and_source(cat):
    free = cat.edit("green dog", **EDIT).pixels[0].astype(np.float64)
    levels = ramp(40, 250)
    mixed = cat.edit("green dog", mask=levels, **EDIT).pixels[0]
    weight = levels[..., None] / 255
    expected = weight * free + (1 - weight) * SOURCE
    assert (np.abs(mixed - expected) <= 0.5 + 1e-5).all(), "the nearest level"
    assert not np.array_equal(mixed, SOURCE)


def test_feathered_mask_is_exact_where_black_or_white(cat):
    levels = np.clip(ramp(0, 255).astype(int) * 3 - 255, 0, 255).astype(np.uint8)
    assert 0 < (levels == 0).mean() < (levels < 255).mean() < 1
    full = cat.edit("green dog", mask=(levels > 0), **EDIT).pixels[0]
    mixed = cat.edit("green dog", mask=levels, **EDIT).pixels[0]
    assert np.array_equal(mixed[levels == 0], SOURCE[levels == 0])
    assert np.array_equal(mixed[levels == 255], full[levels == 255])


def test_feathered_mask_is_combined_with_a_word_region(cat):
    levels = ramp(40, 250)
    words = {"mask_words": "red", "mask_threshold": 0.3}
    hard = cat.edit("green dog", **words, **EDIT).pixels[0].astype(np.float64)
    soft = cat.edit("green dog", mask=levels, **words, **EDIT).pixels[0]
    weight = levels[..., None] / 255
    assert (np.abs(soft - (weight * hard + (1 - weight) * SOURCE)) <= 0.5 + 1e-5).all()


def test_recipe_contains_mask_name_and_hash(sd, cat, tmp_path):
    masks = []
    for n, levels in enumerate((ramp(0, 255), ramp(255, 0))):
        masks.append(tmp_path / "secret" / f"{n}.png")
        masks[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(levels).save(masks[-1])
    result = cat.edit(["green dog", "green dog"], mask=masks, **EDIT)
    result.save(tmp_path / "out.png", 1)
    recipe = read_recipe(tmp_path / "out.png")
    assert recipe["mask"]["name"] == "1.png"
    assert "secret" not in str(recipe)
    assert recipe["mask"]["sha256"] == result.recipes[1]["mask"]["sha256"] != result.recipes[0]["mask"]["sha256"]
    assert "mask" not in cat.edit("green dog", **EDIT).recipes[0]
    plan = sd.plan(IMAGE, "red cat", "green dog", mask=masks[0], steps=6, **EDIT)
    again = pickle.loads(pickle.dumps(plan)).on(sd)
    assert again.run().result.recipes[0]["mask"] == result.recipes[0]["mask"]


def test_colour_images_and_black_masks_are_refused(cat):
    with pytest.raises(BadInput, match="image in colour, not a mask"):
        cat.edit("green dog", mask=IMAGE)
    with pytest.raises(BadInput, match="black everywhere"):
        cat.edit("green dog", mask=np.zeros((HEIGHT, WIDTH), np.uint8))


def test_transparent_parts_can_be_used_as_mask(cat):
    holed, opaque = IMAGE.convert("RGBA"), np.full((HEIGHT, WIDTH), 255, np.uint8)
    opaque[8:20, 4:24] = 0
    holed.putalpha(Image.fromarray(opaque))
    with pytest.raises(BadInput, match="transparent parts"):
        cat.edit("green dog", mask=holed)
    pixels = cat.edit("green dog", mask=transparent_parts(holed), **EDIT).pixels[0]
    assert np.array_equal(pixels, cat.edit("green dog", mask=255 - opaque, **EDIT).pixels[0])


def test_shifts_receive_the_mask_in_latent_cells(cat):
    class Listener(Shift):
        told = None

        def with_mask(self, inside):
            Listener.told = inside
            return self

    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    cat.edit("green dog", methods=[], shifts=[Listener()])
    assert Listener.told is None
    levels[:, : WIDTH // 2] = 255
    cat.edit("green dog", methods=[], shifts=[Listener()], mask=levels)
    factor = cat.model.network.factor
    cells = Listener.told[0, 0, : HEIGHT // factor, : WIDTH // factor]
    for (row, column), value in np.ndenumerate(cells.numpy()):
        assert bool(value) == levels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor].any()
