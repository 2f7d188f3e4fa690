"""Edits restricted to the region of words or of the difference between prompts, alone and with painted masks."""

import numpy as np
import pytest
import torch

from sfumato.api.regions import Found, enlarged
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.models.text import TextEncoder
from sfumato.shifts.regions import LEVELS, maps_of_words, middle
from tests.tiny import tiny_picture

PICTURES = [tiny_picture(48, 32), tiny_picture(48, 32, seed=1)]
TEXT = ("sd", "sd2", "sdxl")


@pytest.fixture(params=TEXT)
def inverted(request, models):
    model = models(request.param)
    return model.invert(PICTURES, ["red cat", "red dog"], steps=6)


@pytest.mark.parametrize("options", [{"mask_words": "red"}, {"mask_difference": True, "mask_threshold": 1.0}])
def test_region_keeps_part_of_the_image_unchanged(inverted, options):
    free = inverted.edit("green dog", skip=1, residual=False)
    bounded = inverted.edit("green dog", skip=1, residual=False, **options)
    for edit, plain, picture in zip(bounded.pixels, free.pixels, PICTURES, strict=True):
        kept = (edit == np.asarray(picture)).all(axis=2)
        factor = inverted.model.network.factor
        cells = kept.reshape(32 // factor, factor, 48 // factor, factor).all(axis=(1, 3))
        assert 0.02 < cells.mean() < 0.98, "neither everything nor nothing"
        assert not np.array_equal(edit, plain)
    assert bounded.recipes[0]["region"]["threshold"] == options.get("mask_threshold", 0.3)


def test_mask_with_a_region_keeps_pixels_outside_unchanged(inverted):
    from PIL import Image

    left = np.zeros((32, 48), np.uint8)
    left[:, :16] = 255
    edit = inverted.edit("green dog", skip=1, mask=Image.fromarray(left), mask_words="red", mask_threshold=0.01)
    for pixels, picture in zip(edit.pixels, PICTURES, strict=True):
        assert np.array_equal(pixels[:, 16:], np.asarray(picture)[:, 16:])


def test_region_outside_the_mask_is_refused_before_any_step(models, monkeypatch):
    from PIL import Image

    left = np.zeros((32, 48), np.float32)
    left[:, :16] = 1
    cells = torch.zeros(1, 8, 12)
    cells[..., :4] = 1
    monkeypatch.setattr("sfumato.api.editing.find", lambda *_: [Found(cells, left)])
    inverted = models("sd").invert(PICTURES[0], "red cat", steps=2)
    work = inverted.edit_steps("green dog", mask=Image.fromarray(np.uint8(255 * (1 - left))), mask_words="red")
    with inverted.model.network.counting() as count:
        with pytest.raises(BadInput, match=r"The mask and the region of red at the threshold 0\.3 do not overlap"):
            next(iter(work))
        assert count.calls == 0


class Listener(Shift):
    """Records the mask that it receives."""

    def __init__(self):
        self.told = None

    def with_mask(self, inside):
        self.told = inside
        return self


@pytest.mark.parametrize("side", [16, 32, 96])
@pytest.mark.parametrize("kind", ["_of_words", "_of_difference"])
def test_region_of_one_cell_equals_its_painted_mask(models, monkeypatch, side, kind):
    """The image is edited at 32 x 32, in cells of 4; the neighbours of the cell keep the latents of the source."""
    cells = torch.zeros(1, 1, 8, 8)
    cells[..., 3, 4] = 1
    monkeypatch.setattr(f"sfumato.api.regions.{kind}", lambda *_: cells)
    region = {"mask_words": "cat"} if kind == "_of_words" else {"mask_difference": True}
    inverted = models("sd").invert(tiny_picture(side, side), "red cat", resolution=32, steps=3)
    unit = side // 8
    painted = np.zeros((side, side), np.uint8)
    painted[3 * unit : 4 * unit, 4 * unit : 5 * unit] = 255
    for options in (region, {"mask": painted}, {"mask": painted, **region}):
        listener = Listener()
        *_, last = inverted.edit_steps("green dog", skip=0, shifts=[listener], **options)
        assert torch.equal((listener.told > 0).float(), cells)
        source, edited = inverted.groups[0].inversion.x0, last.state.x_prev
        changed = (edited - source).abs().amax(dim=1, keepdim=True) > 1e-4
        assert torch.equal(changed.float(), cells)


def test_mask_overlapping_only_the_soft_border_is_refused(models, monkeypatch):
    cells = torch.zeros(1, 1, 8, 8)
    cells[..., 3, 4] = 1
    monkeypatch.setattr("sfumato.api.regions._of_words", lambda *_: cells)
    inverted = models("sd").invert(tiny_picture(96, 96), "red cat", resolution=32, steps=2)
    beside = np.zeros((96, 96), np.uint8)
    beside[36:48, 60:64] = 255  # the region ends at column 60, its soft border at column 61
    with pytest.raises(BadInput, match="do not overlap"):
        inverted.edit("green dog", mask_words="cat", mask=beside)


def test_word_maps_are_evaluated_in_batches(inverted):
    group, network = inverted.groups[0], inverted.model.network
    with network.counting() as count:
        together = maps_of_words(network, group.inversion, group.condition, ["red"], batch=64)
    looked_at = len(middle(6))
    assert (count.calls, count.samples) == (1, 2 * looked_at)
    apart = maps_of_words(network, group.inversion, group.condition, ["red"], batch=1)
    alone = maps_of_words(network, group.inversion.rows([1]), group.condition[[1]], ["red"])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(together[1:], alone)


def evaluations(network, work):
    with network.counting() as count:
        work()
    return count.samples


def test_word_maps_and_prompt_differences_are_cached(models):
    model = models("sd")
    network, looked_at = model.network, len(middle(6))
    inverted = model.invert(PICTURES[0], "red cat", steps=6)
    free = evaluations(network, lambda: inverted.edit("green dog", skip=1))

    def beyond(prompts, times, **options):
        return evaluations(network, lambda: inverted.edit(prompts, skip=1, **options)) - times * free

    assert beyond("green dog", 1, mask_words="red") == looked_at, "the target has no red: the source alone"
    assert beyond("green dog", 1, mask_words="red", mask_threshold=0.1) == 0
    assert beyond(["red dog", "green dog", "red dog"], 3, mask_words="red") == looked_at, "one new prompt with red"
    assert beyond("green dog", 1, mask_difference=True, mask_threshold=1.0) == 2 * 10, "two prompts, ten draws"
    assert beyond(["green dog", "dog"], 2, mask_difference=True, mask_threshold=1.0) == 2 * 10


def test_regions_respect_the_batch_limit(models):
    model = models("sd")
    inverted = model.invert(PICTURES[0], "red cat", steps=6, batch=2)
    for options in ({"mask_words": "red"}, {"mask_difference": True, "mask_threshold": 1.0}):
        with model.network.counting() as count:
            inverted.edit("green cat", skip=1, **options)
        assert count.samples <= 2 * count.calls


def test_empty_region_is_refused_before_the_first_step(models):
    model = models("sd")
    inverted = model.invert(PICTURES, ["red cat", "red dog"], steps=4, batch=2)
    run = inverted.edit_steps(["green cat", "green dog"], skip=1, mask_difference=True, mask_threshold=50)
    with pytest.raises(BadInput, match="gave no region"):
        next(iter(run))


def test_middle_steps_of_a_run():
    assert middle(1) == [0]
    assert middle(100)[0] == 20
    assert middle(100)[-1] == 79
    assert len(middle(100)) == LEVELS
    assert all(0 <= step < 7 for step in middle(7))


def test_cells_are_enlarged_to_pixels():
    cells = torch.zeros(1, 1, 2, 3)
    cells[..., 1, 2] = 1
    (mask,) = enlarged(cells, 4, (11, 7))
    assert mask.shape == (7, 11)
    assert mask.sum() == 3 * 3
    assert mask[4:, 8:].all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mask_words": "cow"}, '"cow" of mask_words is in neither prompt'),
        ({"mask_words": "red", "mask_difference": True}, "not both"),
        ({"mask_threshold": 0.5}, "give one of them"),
        ({"mask_words": " , "}, "separated by commas"),
        ({"mask_words": "red", "mask_threshold": 1.5}, "above 0 and below 1"),
        ({"mask_difference": True, "mask_threshold": 50}, "lower mask_threshold"),
        ({"mask_difference": True, "prompts": "red cat"}, "differs from the source prompt"),
    ],
)
def test_bad_region_options_are_refused(models, options, sentence):
    inverted = models("sd").invert(PICTURES[0], "red cat", steps=4)
    with pytest.raises(BadInput, match=sentence):
        inverted.edit(**{"prompts": "green cat", "skip": 1, **options})


def test_mask_words_with_different_word_splits_are_refused(models, monkeypatch):
    sdxl = models("sdxl")
    inverted = sdxl.invert(PICTURES[0], "red kitten", steps=3)
    second, split = sdxl.network.text_encoders[1], TextEncoder.read
    letters = "_".join
    monkeypatch.setattr(
        TextEncoder, "read", lambda encoder, text: split(encoder, letters(text) if encoder is second else text)
    )
    with pytest.raises(BadInput, match="split prompts differently"):
        inverted.edit("red dog", mask_words="red")
    inverted.edit("red dog", skip=1, mask_difference=True, mask_threshold=1.0)


def test_region_without_text_encoder_is_refused(models):
    inverted = models("ddpm").invert(PICTURES[0], steps=4)
    with pytest.raises(BadInput, match="needs a model with text"):
        inverted.edit(skip=1, mask_difference=True)


def test_mask_words_on_the_command_line(tiny_sd_folder, tmp_path, capsys):
    from sfumato.cli import main

    PICTURES[0].save(tmp_path / "in.png")
    words = ["edit", str(tmp_path / "in.png"), "--from", "red cat", "--to", "green cat", "--steps", "5", "--skip", "1"]
    words += ["-o", str(tmp_path / "out.png"), "--model", str(tiny_sd_folder)]
    assert main([*words, "--mask-words", "cat"]) == 0
    assert main([*words, "--mask-words", "cow"]) == 2
    assert "cow" in capsys.readouterr().err
