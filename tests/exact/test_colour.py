"""Colour manipulation, eq. 7 of arXiv 2304.06140, against the equation written out and a closed form."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from sfumato.core.guidance import classifier_free
from sfumato.errors import BadInput
from sfumato.images.recolour import recolour
from sfumato.inversion import invert_edit_friendly, replay
from sfumato.methods.colour import ColourParams, rgb
from sfumato.shifts.colour import PRESENT, Recolour, TowardsColour
from tests.exact.toy import Constant, Convolution, finished, linear_schedule, prompt, stable_diffusion_schedule

SHAPE = (2, 4, 12, 20)


def inverted(network):
    guided = classifier_free(network, prompt(2, 0.0), (1.0, 1.0))
    x0 = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    inversion, _ = finished(invert_edit_friendly(guided, x0, prompt(2), steps=20, seeds=[0, 1], exact=True))
    return guided, inversion


def test_noise_maps_change_by_equation_7():
    guided, inversion = inverted(Convolution(stable_diffusion_schedule()))
    colour = torch.full((1, 4, 1, 1), 0.7).expand(1, *SHAPE[1:])
    inside = torch.zeros(1, 1, *SHAPE[2:])
    inside[..., :10] = 1
    shift = TowardsColour(colour, 0.3, inside, (200, 700))
    states = list(replay(guided, inversion, prompt(2), shifts=[shift]))
    for state in states:
        z = inversion.z[state.i]
        if 200 <= state.t <= 700:
            wanted = z + 0.3 * inside * (colour - state.x0_prediction)
            assert not torch.equal(state.z[..., :10], z[..., :10])
            assert torch.allclose(state.z, wanted.to(state.z), atol=1e-12)
        else:
            assert torch.equal(state.z, z)
        assert torch.equal(state.z[..., 10:].to(z), z[..., 10:])


def test_colour_equal_to_the_prediction_changes_nothing():
    """With a target colour equal to P_t, the run equals the one without a shift."""
    network = Constant(stable_diffusion_schedule(), torch.zeros(1, 4, 1, 1))
    guided, inversion = inverted(network)
    plain = list(replay(guided, inversion, prompt(2)))

    class Itself(TowardsColour):
        def noise_map(self, state, z):
            return TowardsColour(state.x0_prediction, self.amount, self.inside, self.window).noise_map(state, z)

    shift = Itself(inversion.x0, 5.0, torch.ones(1, 1, 1, 1), (0, 999))
    moved = list(replay(guided, inversion, prompt(2), shifts=[shift]))
    assert torch.equal(plain[-1].x_prev, moved[-1].x_prev)


class Unshuffle:
    """An autoencoder without loss: latents are the pixels of 2 x 2 cells."""

    factor = 2

    def encode(self, pixels):
        return F.pixel_unshuffle(pixels, 2)

    def decode(self, latents):
        return F.pixel_shuffle(latents.float(), 2)


BLUE = torch.tensor([-1.0, -0.2, 1.0])


def drawn():
    """A red disc with a green corner, and a green square with a red spot, on white, [2,3,32,32]."""
    pixels = torch.ones(2, 3, 32, 32)
    y, x = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="ij")
    red, green = (torch.tensor(each)[:, None] for each in ((0.7, -0.7, -0.5), (-0.7, 0.3, -0.5)))
    pixels[0, :, x**2 + y**2 < 100] = red
    pixels[0, :, 2:8, 2:8] = green[..., None]
    pixels[1, :, 6:26, 6:26] = green[..., None]
    pixels[1, :, 12:16, 12:16] = red[..., None]
    return pixels


def inverted_drawing():
    guided = classifier_free(Convolution(stable_diffusion_schedule(), channels=12), prompt(2, 0.0), (1.0, 1.0))
    x0 = Unshuffle().encode(drawn())
    inversion, _ = finished(invert_edit_friendly(guided, x0, prompt(2), steps=20, seeds=[0, 1], exact=True))
    return guided, inversion


def dilated(share):
    """1 for every latent with a pixel of the main colour, and its eight neighbours; loops over the latents."""
    h, w = (side // 2 for side in share.shape)
    own = [[bool((share[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] > PRESENT).any()) for j in range(w)] for i in range(h)]
    near = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    there = lambda i, j: 0 <= i < h and 0 <= j < w and own[i][j]  # noqa: E731
    return torch.tensor([[any(there(i + k, j + m) for k, m in near) for j in range(w)] for i in range(h)]).float()


def test_recolour_uses_recoloured_source_and_dilated_mask():
    guided, inversion = inverted_drawing()
    found = [recolour(each, BLUE) for each in drawn()]
    colour = Unshuffle().encode(torch.stack([each.pixels for each in found]))
    inside = torch.stack([dilated(each.share) for each in found])[:, None]
    ours, theirs = (
        list(replay(guided, inversion, prompt(2), shifts=[shift]))
        for shift in (
            Recolour(Unshuffle(), BLUE, 0.8, (100, 700)),
            TowardsColour(colour, 0.8, inside, (100, 700)),
        )
    )
    assert torch.allclose(ours[-1].x_prev, theirs[-1].x_prev, atol=1e-5)
    assert not torch.allclose(ours[-1].x_prev, inversion.x0, atol=0.1)


def test_main_colour_is_taken_inside_the_mask():
    """The first mask contains only the corner, whose colour differs from the disc's; the second one is full."""
    guided, inversion = inverted_drawing()
    mask = torch.ones(2, 1, 16, 16)
    mask[0] = 0
    mask[0, :, 1:4, 1:4] = 1
    shift = Recolour(Unshuffle(), BLUE, 0.8, (100, 700))
    free, held = (list(replay(guided, inversion, prompt(2), shifts=[each])) for each in (shift, shift.with_mask(mask)))
    assert torch.equal(free[-1].x_prev[1], held[-1].x_prev[1])
    (first,) = (state for state in held if state.z is not None and state.t == 651)
    moved = (first.z - inversion.z[first.i])[0].abs().amax(0) > 1e-6
    assert moved[1:4, 1:4].all()
    assert not moved[8:, :].any()  # the disc


def test_flat_recolour_equals_the_paper():
    guided, inversion = inverted_drawing()
    found = [recolour(each, BLUE).share for each in drawn()]
    share = torch.stack([F.avg_pool2d(each[None], 2) for each in found])
    colour = Unshuffle().encode(BLUE.reshape(1, 3, 1, 1).expand(1, 3, 32, 32))
    ours, theirs = (
        list(replay(guided, inversion, prompt(2), shifts=[shift]))
        for shift in (
            Recolour(Unshuffle(), BLUE, 0.1, (100, 700), flat=True),
            TowardsColour(colour, 0.1, share, (100, 700)),
        )
    )
    assert torch.equal(ours[-1].x_prev, theirs[-1].x_prev)


def test_shift_can_be_reused_with_another_source():
    guided, inversion = inverted_drawing()
    shift = Recolour(Unshuffle(), BLUE, 0.8, (100, 700))
    both = [list(replay(guided, inversion, prompt(2), shifts=[shift]))[-1].x_prev for _ in range(2)]
    assert torch.equal(*both)
    turned = inversion.rows([1, 0])
    again = list(replay(guided, turned, prompt(2), shifts=[shift]))[-1].x_prev
    assert torch.allclose(again, both[0][[1, 0]], atol=1e-5)


def test_recolour_without_a_source_is_refused():
    guided, inversion = inverted_drawing()
    shift = Recolour(Unshuffle(), BLUE, 0.8, (100, 700))
    state = next(replay(guided, inversion, prompt(2)))
    with pytest.raises(BadInput, match="invert an image first"):
        shift.noise_map(dataclasses.replace(state, source={}), None)


@pytest.mark.parametrize(("steps", "skip", "way"), [(1, 0, "use more steps"), (2, 1, "skip fewer steps")])
def test_edit_whose_steps_add_no_noise_is_refused(steps, skip, way):
    """The last step of a schedule that ends at abar = 1 has sigma = 0."""
    network = SimpleNamespace(schedule=linear_schedule())
    with pytest.raises(BadInput, match=f"No timestep of the edit that adds noise lies between .*: {way}"):
        ColourParams(steps=steps, skip=skip).check_run(network, (8, 8), [])


@pytest.mark.parametrize(
    "colour", ["rgb(300,0,0)", "rgb(200%,0%,0%)", "hsl(0,200%,50%)", "#ff000080", "rgba(1,2,3,400)", "rgba(1,2,3,0)"]
)
def test_colours_outside_srgb_or_with_transparency_are_refused(colour):
    with pytest.raises(BadInput, match="opaque colour with levels from 0 to 255"):
        ColourParams(colour=colour).check()


@pytest.mark.parametrize("colour", ["#f00", "#ff0000ff", "rgb(100%, 0%, 0%)", "hsl(360, 100%, 50%)", "red"])
def test_notations_of_one_colour_are_equal(colour):
    assert rgb(colour) == (255, 0, 0)
