"""Image shifting: with a network that sees no borders, moved noise maps reproduce the moved picture."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.core import step as steps_of
from sfumato.core.guidance import Guided
from sfumato.errors import BadInput
from sfumato.inversion import invert_ddim, invert_edit_friendly, invert_native, replay, translate
from tests.exact.toy import Convolution, finished, prompt, stable_diffusion_schedule


class Circular(Convolution):
    """The toy network on a torus: what it says moves with its input."""

    def predict(self, x, t, cond, taps=None):
        level = self.schedule.abar(int(torch.as_tensor(t).flatten()[0]))
        h = F.conv2d(F.pad(x.double(), (1, 1, 1, 1), mode="circular"), self.first.double())
        eps = (1 - level) ** 0.5 * x + self.share * F.conv2d(
            F.pad(torch.sin(h), (1, 1, 1, 1), mode="circular"), self.last.double()
        )
        return steps_of.to_epsilon(eps, x, level, "epsilon")


def inverted(invert, shape=(2, 4, 12, 20)):
    guided = Guided(Circular(stable_diffusion_schedule()), prompt(2, 0.0), (1.0, 1.0))
    x0 = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    inversion, _ = finished(invert(guided, x0, prompt(2), steps=20, seeds=[0, 1], exact=True))
    return guided, x0, inversion


@pytest.mark.parametrize("invert", [invert_edit_friendly, invert_native])
@pytest.mark.parametrize(("right", "down", "skip"), [(3, 0, 0), (-5, 2, 0), (19, -11, 7)])
def test_moved_maps_reproduce_the_moved_picture(invert, right, down, skip):
    guided, x0, inversion = inverted(invert)
    moved = translate(inversion, right, down)
    last = list(replay(guided, moved, prompt(2), skip=skip))[-1].x_prev
    assert (last - torch.roll(x0, (down, right), (2, 3))).abs().max() <= 1e-5
    assert torch.equal(inversion.x0, x0)


def test_what_cannot_be_moved_is_refused():
    guided, x0, inversion = inverted(invert_edit_friendly)
    with pytest.raises(BadInput, match="20 x 12 latents"):
        translate(inversion, 0, 12)
    flat, _ = finished(invert_ddim(guided, x0, prompt(2), steps=5))
    with pytest.raises(BadInput, match="without noise maps"):
        translate(flat, 1, 0)
