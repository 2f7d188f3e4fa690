"""`compat="official"` of pix2pix-zero against plain loops over the U-Net, written from the public code's behaviour."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfumato.core.guidance import classifier_free
from sfumato.core.rows import NEGATIVE
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.inversion import replay, with_source
from sfumato.inversion.regularised import OFFICIAL
from sfumato.inversion.regularised_official import invert_as_published
from sfumato.methods.pix2pix_zero import Pix2PixZeroParams
from sfumato.models.load import load_model
from sfumato.shifts.attention_guidance import published_guidance
from tests.exact.toy import finished
from tests.explicit import explicit
from tests.tiny import tiny_image

STEPS, SEED, SCALE, AMOUNT = 4, 11, 3.0, 40.0


class Moved(Shift):
    """The edit direction: added to the tokens of the conditional half only."""

    def __init__(self, direction):
        self.direction = direction

    def condition(self, state, condition):
        return type(condition)(tokens=condition.tokens + self.direction)


@pytest.fixture(scope="module")
def scene(tiny_sd_folder):
    model = load_model(tiny_sd_folder, "cpu")
    model.unet.double()
    source = model.condition(["red cat"])
    source = type(source)(tokens=source.tokens.double())
    generator = torch.Generator().manual_seed(3)
    x0 = torch.randn((1, model.latent_channels, 16, 16), generator=generator, dtype=torch.float64)
    direction = torch.randn(source.tokens.shape, generator=generator, dtype=torch.float64)
    return model, source, x0, direction


@pytest.fixture(scope="module")
def inversion(scene):
    model, source, x0, _ = scene
    guided = classifier_free(model, source, (1.0,))
    with model.counting() as count:
        found, states = finished(invert_as_published(guided, x0, source, steps=STEPS, seeds=[SEED]))
    assert count.samples == 2 * STEPS - 2
    assert [state.i for state in states] == list(range(2 * STEPS - 2))
    assert {state.steps for state in states} == {2 * STEPS - 2}
    return found


def timesteps(model):
    """The DDIM scheduler's: i * (1000 // N) + 1, noisiest first."""
    stride = len(model.schedule) // STEPS
    return [i * stride + 1 for i in reversed(range(STEPS))], stride


def auto_correlation(e, rolls):
    """One roll for every channel and level; both axes of a channel share it."""
    total = 0.0
    for channel in range(e.shape[0]):
        noise, level = e[channel][None, None], 0
        while True:
            roll = int(rolls[level, channel])
            total = total + (noise * torch.roll(noise, roll, dims=2)).mean() ** 2
            total = total + (noise * torch.roll(noise, roll, dims=3)).mean() ** 2
            if noise.shape[2] <= 8:
                break
            noise, level = F.avg_pool2d(noise, 2), level + 1
    return total


def kl(e):
    return e.var() + e.mean() ** 2 - 1 - torch.log(e.var() + 1e-7)


def regularised(e, rolls):
    """Five rounds of five steps of 20 / 5 on the autocorrelation and one of 20 on KL."""
    draws = iter(rolls)
    for _ in range(5):
        for _ in range(5):
            e = stepped(e, lambda e: auto_correlation(e[0], next(draws)), 20 / 5)
        e = stepped(e, kl, 20.0)
    return e


def stepped(e, loss, rate):
    e = e.detach().requires_grad_()
    loss(e).backward()
    return e.detach() - rate * e.grad


def theirs_inverted(model, source, x0):
    """Upwards over all timesteps but the first and the last, each step between the levels t - 1 and t + stride - 1."""
    visited, stride = timesteps(model)
    abar, x = model.schedule.alphas_cumprod, x0
    for t in visited[::-1][1:-1]:
        with torch.no_grad():
            e = model.unet(x, t, encoder_hidden_states=source.tokens).sample
        # [draws, levels, axes, channels, rows], of which both axes are the same
        e = regularised(e, OFFICIAL.shifts(x0.shape[1:], [SEED], t)[:, :, 0, :, 0])
        a, b = float(abar[t - 1]), float(abar[t + stride - 1])
        x = math.sqrt(b) * (x - math.sqrt(1 - a) * e) / math.sqrt(a) + math.sqrt(1 - b) * e
    return x


def ddim(model, x, e, t, stride):
    abar = model.schedule.alphas_cumprod
    a = float(abar[t])
    b = float(abar[t - stride]) if t >= stride else model.schedule.final_alpha_cumprod
    return math.sqrt(b) * (x - math.sqrt(1 - a) * e) / math.sqrt(a) + math.sqrt(1 - b) * e


def theirs_edited(model, source, x, direction, amount):
    """A reconstruction that records the maps of both halves, then an edit by SGD on the doubled batch."""
    visited, stride = timesteps(model)
    both, start, references = source.tokens.repeat(2, 1, 1), x, {}
    for t in visited:
        with torch.no_grad(), explicit(model, lambda name, maps: maps) as maps:
            halves = model.unet(x.repeat(2, 1, 1, 1), t, encoder_hidden_states=both).sample.chunk(2)
        references[t] = {name: each.flatten(0, 1) for name, each in maps.items() if name.endswith("attn2")}
        x = ddim(model, x, halves[0] + SCALE * (halves[1] - halves[0]), t, stride)
    edit, x = torch.cat([source.tokens, source.tokens + direction]), start
    for t in visited:
        pair = x.repeat(2, 1, 1, 1).requires_grad_()
        with explicit(model, lambda name, maps: maps) as maps:
            model.unet(pair, t, encoder_hidden_states=edit)
        loss = sum(
            ((maps[name].flatten(0, 1) - reference) ** 2).sum((1, 2)).mean(0)
            for name, reference in references[t].items()
        )
        loss.backward()
        pair = pair.detach() - amount * pair.grad
        with torch.no_grad():
            halves = model.unet(pair, t, encoder_hidden_states=edit).sample.chunk(2)
        x = ddim(model, pair.chunk(2)[0], halves[0] + SCALE * (halves[1] - halves[0]), t, stride)
    return x


def test_rolls_are_drawn_per_channel_and_level():
    shifts = OFFICIAL.shifts((3, 16, 16), range(60), 981)
    assert shifts.shape == (25, 2, 2, 3, 60)
    assert torch.equal(shifts[:, :, 0], shifts[:, :, 1])
    assert shifts[:, 0].unique().tolist() == list(range(1, 8))
    assert shifts[:, 1].unique().tolist() == [1, 2, 3]
    assert not torch.equal(shifts[..., 0, :], shifts[..., 1, :])


def test_regularisation_equals_the_reference_loops():
    noise = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rolls = OFFICIAL.shifts(noise.shape[1:], [4, 9], 21)
    for row in range(2):
        expected = regularised(noise[row : row + 1], rolls[:, :, 0, :, row])
        found = OFFICIAL(noise, [4, 9], 21)[row : row + 1]
        assert torch.allclose(found, expected, atol=1e-12)
        assert (found - noise[row : row + 1]).abs().max() > 1e-3


def test_inversion_equals_the_reference_loops(scene, inversion):
    model, source, x0, _ = scene
    theirs = theirs_inverted(model, source, x0)
    assert inversion.timesteps == tuple(timesteps(model)[0])
    assert torch.allclose(inversion.x[0], theirs, rtol=1e-9, atol=1e-9)
    assert torch.equal(inversion.x[-1], x0)
    assert (theirs - x0).abs().max() > 0.1


@pytest.mark.parametrize("amount", [0.0, AMOUNT])
def test_edit_equals_the_reference_loops(scene, inversion, amount):
    model, source, _, direction = scene
    guided = with_source(classifier_free(model, source, (SCALE,)), inversion, source)
    shifts = [
        Moved(direction),
        *(published_guidance(amount, guided.condition_of(NEGATIVE)) if amount else ()),
    ]
    with model.counting() as count:
        *_, last = replay(guided, inversion, source, shifts=shifts)
    if amount:  # two rows with gradient, two without, and two of the source in every step
        assert count.samples == 6 * STEPS
    theirs = theirs_edited(model, source, inversion.x[0], direction, amount)
    assert torch.allclose(last.x_prev, theirs, rtol=1e-7, atol=1e-7)


def test_shifts_can_be_reused_in_a_second_run(scene, inversion):
    model, source, _, direction = scene
    guided = with_source(classifier_free(model, source, (SCALE,)), inversion, source)
    shifts = [Moved(direction), *published_guidance(AMOUNT, guided.condition_of(NEGATIVE))]
    first, second = (list(replay(guided, inversion, source, shifts=shifts))[-1].x_prev for _ in range(2))
    assert torch.equal(first, second)
    *_, free = replay(guided, inversion, source, shifts=shifts[:1])
    assert (first - free.x_prev).abs().max() > 1e-3


def test_options_missing_in_the_public_code_are_refused():
    with pytest.raises(BadInput, match="at least 3, not 2"):
        Pix2PixZeroParams(compat="official", steps=2).check()
    with pytest.raises(BadInput, match="leave out exact"):
        Pix2PixZeroParams(compat="official", exact=True).check()
    Pix2PixZeroParams(compat="official", inversion="ddim", exact=True, steps=2).check()


def test_opened_official_inversion_gives_the_same_edit(models_sd, tmp_path):
    official = models_sd.invert(
        tiny_image(32, 24), "red cat", method="pix2pix-zero", steps=4, compat="official", seed=5
    )
    edit = official.edit("red dog", negative_prompt="red cat", cross_attention_guidance_amount=1000.0)
    plain = official.edit("red dog", negative_prompt="red cat", cross_attention_guidance_amount=0.0)
    assert not np.array_equal(edit.pixels[0], plain.pixels[0])
    official.save(tmp_path / "cat.safetensors")
    again = models_sd.open(tmp_path / "cat.safetensors")
    found = again.edit("red dog", negative_prompt="red cat", cross_attention_guidance_amount=1000.0)
    assert np.array_equal(found.pixels[0], edit.pixels[0])


@pytest.fixture(scope="module")
def models_sd(tiny_sd_folder):
    import sfumato

    return sfumato.load(str(tiny_sd_folder))
