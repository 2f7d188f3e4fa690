"""Colour manipulation, eq. 7 of arXiv 2304.06140, against the equation written out and a closed form."""

import torch

from sfumato.core.guidance import classifier_free
from sfumato.inversion import invert_edit_friendly, replay
from sfumato.shifts.colour import TowardsColour
from tests.exact.toy import Constant, Convolution, finished, prompt, stable_diffusion_schedule

SHAPE = (2, 4, 12, 20)


def inverted(network):
    guided = classifier_free(network, prompt(2, 0.0), (1.0, 1.0))
    x0 = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    inversion, _ = finished(invert_edit_friendly(guided, x0, prompt(2), steps=20, seeds=[0, 1], exact=True))
    return guided, inversion


def test_every_noise_map_moves_by_equation_7():
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


def test_nothing_moves_where_the_colour_is_already_there():
    """With constant noise P is x_0 plus a known remainder; a colour equal to P leaves the maps alone."""
    network = Constant(stable_diffusion_schedule(), torch.zeros(1, 4, 1, 1))
    guided, inversion = inverted(network)
    plain = list(replay(guided, inversion, prompt(2)))

    class Itself(TowardsColour):
        def noise_map(self, state, z):
            return TowardsColour(state.x0_prediction, self.strength, self.inside, self.window).noise_map(state, z)

    shift = Itself(inversion.x0, 5.0, torch.ones(1, 1, 1, 1), (0, 999))
    moved = list(replay(guided, inversion, prompt(2), shifts=[shift]))
    assert torch.equal(plain[-1].x_prev, moved[-1].x_prev)
