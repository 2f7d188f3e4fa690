"""Edits restricted to the region of words or of the difference between prompts, alone and with painted masks."""

import numpy as np
import pytest
import torch

from sfumato.api.automatic_masks import Found, enlarged
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.models.text import TextEncoder
from sfumato.shifts.diffedit import disagreement
from sfumato.shifts.regions import LEVELS, maps_of_words, middle
from sfumato.shifts.words import word_mask
from tests.tiny import tiny_image

IMAGES = [tiny_image(48, 32), tiny_image(48, 32, seed=1)]
TEXT = ("sd", "sd2", "sdxl")


@pytest.fixture(params=TEXT)
def inverted(request, models):
    model = models(request.param)
    return model.invert(IMAGES, ["red cat", "red dog"], steps=6)


def cells_of_word(inverted, word, threshold):
    """The cells of the region of a word of the source prompt, found without an edit: bool [b,h,w]."""
    group = inverted.groups[0]
    maps = maps_of_words(group.network, group.inversion, group.condition, [word])
    return word_mask(maps, group.inversion.x0.shape[-2:], threshold)[:, 0] > 0


def cells_of_difference(inverted, target, threshold):
    """The cells where the difference of the prompts exceeds its mean times the threshold: bool [b,h,w]."""
    group, inversion = inverted.groups[0], inverted.groups[0].inversion
    condition = group.network.condition([target] * 2, size=(32, 48))
    t, seeds = inversion.timesteps[3], inversion.seeds
    found = disagreement(group.network, inversion.x0, group.condition, condition, t=t, seeds=seeds)[:, 0]
    return found > threshold * found.mean(dim=(1, 2), keepdim=True)


def check_restricted(run, source, cells, factor):
    """Check that an edit without the residual is its decoded latents in the cells, and exactly the source outside."""
    assert all(0 < each.float().mean() < 1 for each in cells)
    *_, last = run
    assert torch.equal((last.state.x_prev != source).any(dim=1), cells)
    inside = cells.repeat_interleave(factor, 1).repeat_interleave(factor, 2)[..., None].numpy()
    expected = np.where(inside, np.stack(last.show(last.state.x_prev)), np.stack(IMAGES))
    assert np.array_equal(np.stack(run.result.pixels), expected)


@pytest.mark.parametrize("options", [{"mask_words": "red"}, {"mask_difference": True, "mask_threshold": 1.0}])
def test_edit_is_restricted_to_the_region(inverted, options):
    words = "mask_words" in options
    cells = cells_of_word(inverted, "red", 0.3) if words else cells_of_difference(inverted, "green dog", 1.0)
    run = inverted.edit_steps("green dog", skip=1, residual=False, **options)
    check_restricted(run, inverted.groups[0].inversion.x0, cells, inverted.model.network.factor)
    assert run.result.recipes[0]["region"]["threshold"] == options.get("mask_threshold", 0.3)


def test_edit_is_restricted_to_the_overlap_of_mask_and_region(inverted):
    factor = inverted.model.network.factor
    left = np.zeros((32, 48), np.uint8)
    left[:, :24] = 255
    run = inverted.edit_steps("green dog", skip=1, residual=False, mask=left, mask_words="red", mask_threshold=0.3)
    cells = cells_of_word(inverted, "red", 0.3)
    cells[..., 24 // factor :] = False
    check_restricted(run, inverted.groups[0].inversion.x0, cells, factor)


def test_region_outside_the_mask_is_refused_before_any_step(models, monkeypatch):
    from PIL import Image

    left = np.zeros((32, 48), np.float32)
    left[:, :16] = 1
    cells = torch.zeros(1, 8, 12)
    cells[..., :4] = 1
    monkeypatch.setattr("sfumato.api.editing.find", lambda *_: [Found(cells, left)])
    inverted = models("sd").invert(IMAGES[0], "red cat", steps=2)
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
    """The image is edited at 32 x 32, in cells of 4; outside the cell, latents and pixels are those of the source.

    The border of a region without a mask is soft by one pixel of the image, if it is edited at another size.
    """
    cells = torch.zeros(1, 1, 8, 8)
    cells[..., 3, 4] = 1
    monkeypatch.setattr(f"sfumato.api.automatic_masks.{kind}", lambda *_: cells)
    region = {"mask_words": "cat"} if kind == "_of_words" else {"mask_difference": True}
    image, unit = tiny_image(side, side), side // 8
    inverted = models("sd").invert(image, "red cat", resolution=32, steps=3)
    painted = np.zeros((side, side), np.uint8)
    painted[3 * unit : 4 * unit, 4 * unit : 5 * unit] = 255
    for options in (region, {"mask": painted}, {"mask": painted, **region}):
        listener = Listener()
        run = inverted.edit_steps("green dog", skip=0, shifts=[listener], **options)
        *_, last = run
        assert torch.equal((listener.told > 0).float(), cells)
        source, edited = inverted.groups[0].inversion.x0, last.state.x_prev
        assert torch.equal((edited != source).any(dim=1, keepdim=True).float(), cells)
        border = int(side != 32 and "mask" not in options)
        outside = np.ones((side, side), bool)
        outside[3 * unit - border : 4 * unit + border, 4 * unit - border : 5 * unit + border] = False
        changed = (run.result.pixels[0] != np.asarray(image)).any(axis=2)
        assert changed.any()
        assert not changed[outside].any()


def test_mask_overlapping_only_the_soft_border_is_refused(models, monkeypatch):
    cells = torch.zeros(1, 1, 8, 8)
    cells[..., 3, 4] = 1
    monkeypatch.setattr("sfumato.api.automatic_masks._of_words", lambda *_: cells)
    inverted = models("sd").invert(tiny_image(96, 96), "red cat", resolution=32, steps=2)
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
    inverted = model.invert(IMAGES[0], "red cat", steps=6)
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
    inverted = model.invert(IMAGES[0], "red cat", steps=6, batch=2)
    for options in ({"mask_words": "red"}, {"mask_difference": True, "mask_threshold": 1.0}):
        with model.network.counting() as count:
            inverted.edit("green cat", skip=1, **options)
        assert count.samples <= 2 * count.calls


def test_empty_region_is_refused_before_the_first_step(models):
    model = models("sd")
    inverted = model.invert(IMAGES, ["red cat", "red dog"], steps=4, batch=2)
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
    inverted = models("sd").invert(IMAGES[0], "red cat", steps=4)
    with pytest.raises(BadInput, match=sentence):
        inverted.edit(**{"prompts": "green cat", "skip": 1, **options})


def test_mask_words_with_different_word_splits_are_refused(models, monkeypatch):
    sdxl = models("sdxl")
    inverted = sdxl.invert(IMAGES[0], "red kitten", steps=3)
    second, split = sdxl.network.text_encoders[1], TextEncoder.read
    letters = "_".join
    monkeypatch.setattr(
        TextEncoder, "read", lambda encoder, text: split(encoder, letters(text) if encoder is second else text)
    )
    with pytest.raises(BadInput, match="split prompts differently"):
        inverted.edit("red dog", mask_words="red")
    inverted.edit("red dog", skip=1, mask_difference=True, mask_threshold=1.0)


def test_region_without_text_encoder_is_refused(models):
    inverted = models("ddpm").invert(IMAGES[0], steps=4)
    with pytest.raises(BadInput, match="needs a model with text"):
        inverted.edit(skip=1, mask_difference=True)


def test_mask_words_on_the_command_line(tiny_sd_folder, tmp_path, capsys):
    from sfumato.cli import main

    IMAGES[0].save(tmp_path / "in.png")
    words = ["edit", str(tmp_path / "in.png"), "--from", "red cat", "--to", "green cat", "--steps", "5", "--skip", "1"]
    words += ["-o", str(tmp_path / "out.png"), "--model", str(tiny_sd_folder)]
    assert main([*words, "--mask-words", "cat"]) == 0
    assert main([*words, "--mask-words", "cow"]) == 2
    assert "cow" in capsys.readouterr().err
