"""Image shifting: with a periodic network, shifted noise maps reproduce the shifted image."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.core import step as steps_of
from sfumato.core.guidance import classifier_free
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.inversion import invert_edit_friendly, invert_native, replay
from sfumato.methods.shift import ShiftParams
from sfumato.shifts.translate import Translate, check_move
from tests.exact.toy import Convolution, finished, prompt, stable_diffusion_schedule


class Circular(Convolution):
    """The toy network with circular padding: its output shifts with its input."""

    def predict(self, x, t, cond, taps=None):
        level = self.schedule.abar(int(torch.as_tensor(t).flatten()[0]))
        h = F.conv2d(F.pad(x.double(), (1, 1, 1, 1), mode="circular"), self.first.double())
        eps = (1 - level) ** 0.5 * x + self.share * F.conv2d(
            F.pad(torch.sin(h), (1, 1, 1, 1), mode="circular"), self.last.double()
        )
        return steps_of.to_epsilon(eps, x, level, "epsilon")


def inverted(invert, shape=(2, 4, 12, 20)):
    guided = classifier_free(Circular(stable_diffusion_schedule()), prompt(2, 0.0), (1.0, 1.0))
    x0 = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    inversion, _ = finished(invert(guided, x0, prompt(2), steps=20, seeds=[0, 1], exact=True))
    return guided, x0, inversion


@pytest.mark.parametrize("invert", [invert_edit_friendly, invert_native])
@pytest.mark.parametrize(("right", "down", "skip"), [(3, 0, 0), (-5, 2, 0), (19, -11, 7)])
def test_shifted_noise_maps_reproduce_the_shifted_image(invert, right, down, skip):
    guided, x0, inversion = inverted(invert)
    last = list(replay(guided, inversion, prompt(2), skip=skip, shifts=[Translate(right, down)]))[-1].x_prev
    assert (last - torch.roll(x0, (down, right), (2, 3))).abs().max() <= 1e-5
    assert torch.equal(inversion.x0, x0)


def test_latents_of_every_step_are_shifted():
    guided, _, inversion = inverted(invert_edit_friendly)
    for state in replay(guided, inversion, prompt(2), shifts=[Translate(3, -2)]):
        for value, recorded in ((state.x_t, inversion.x), (state.z, inversion.z)):
            assert (value - torch.roll(recorded[state.i], (-2, 3), (2, 3))).abs().max() <= 1e-5


def test_two_shifts_equal_one_by_their_sum():
    guided, _, inversion = inverted(invert_edit_friendly)
    runs = [
        torch.stack([state.x_prev for state in replay(guided, inversion, prompt(2), shifts=shifts)])
        for shifts in ([Translate(3, 0), Translate(-1, 4)], [Translate(2, 4)])
    ]
    assert torch.equal(*runs)


def test_invalid_shifts_are_refused():
    check_move(19, -11, (12, 20))
    for right, down in ((0, 12), (20, 0), (-20, 0)):
        with pytest.raises(BadInput, match="right must be between -19 and 19 and down between -11 and 11 latents"):
            check_move(right, down, (12, 20))
    for name in ("ddim", "regularised"):
        with pytest.raises(BadInput, match="inversion must be one of edit-friendly, native-ddpm"):
            ShiftParams(inversion=name, eta=0.0).check()
        with pytest.raises(BadInput, match=f"by edit-friendly or native-ddpm, not by {name}"):
            METHODS.find("shift").check_accepts(name)
