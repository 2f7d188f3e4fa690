"""The authors' algorithm, and the converted networks that it is compared on."""

import pytest
import torch

from papers.ddpm_noise_space import official
from papers.ddpm_noise_space.reconstruction import predicting, two_shapes
from sfumato.core.guidance import classifier_free
from sfumato.inversion import invert_edit_friendly
from sfumato.models.load import load_model
from tests.exact.toy import Convolution, finished, prompt, stable_diffusion_schedule
from tests.tiny import tiny_image

STEPS = 20


@pytest.fixture
def x0():
    return torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))


def inverted_by_both(x0, eta=1.0, final=1.0):
    network = Convolution(stable_diffusion_schedule(final_alpha_cumprod=final))
    guidance = official.Guidance(network, prompt(1), prompt(1, 0.0), 3.5)
    theirs = official.invert(guidance, x0, steps=STEPS, eta=eta)
    guided = classifier_free(network, prompt(1, 0.0), (3.5,))
    ours, _ = finished(invert_edit_friendly(guided, x0, prompt(1), steps=STEPS, eta=eta, seeds=[0], exact=True))
    return guidance, theirs, ours


@pytest.mark.parametrize("final", [1.0, 0.99915])
def test_noise_maps_are_equal_except_the_last(x0, final):
    _, theirs, ours = inverted_by_both(x0, final=final)
    assert torch.allclose(theirs.x, ours.x[:-1], atol=1e-5)
    assert torch.allclose(theirs.z[:-1], ours.z[:-1], atol=1e-3)
    assert (theirs.z[-1] == 0).all()


def test_reconstruction_error_is_the_last_noise_map(x0):
    guidance, theirs, ours = inverted_by_both(x0)
    *before, last = official.replay(guidance, theirs)
    assert torch.allclose(before[-1], theirs.x[-1], atol=1e-5)
    # with abar = 1 at the end the last map of ours is the plain residual
    assert torch.allclose(x0 - last, ours.z[-1], atol=1e-4)
    assert (x0 - last).abs().max() > 1e-3


def test_noise_maps_differ_for_eta_below_one(x0):
    """The authors' code uses eta * variance instead of eta^2 * variance, so the maps differ for eta < 1."""
    _, theirs, ours = inverted_by_both(x0, eta=0.5)
    assert (theirs.z[:-1] - ours.z[:-1]).abs().max() > 0.01


def test_each_step_makes_two_calls_of_one_row(x0):
    network = Convolution(stable_diffusion_schedule())
    guidance = official.Guidance(network, prompt(1), prompt(1, 0.0), 3.5)
    inversion = official.invert(guidance, x0, steps=STEPS)
    list(official.replay(guidance, inversion, skip=5))
    assert (network.calls, network.samples) == (2 * STEPS + 2 * (STEPS - 5),) * 2


@pytest.mark.parametrize("layout", ["sd", "sd2"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_converted_network_is_the_same_function(tiny_folder, layout, kind, x0):
    network = load_model(tiny_folder(layout), "cpu")
    hooks = len(network.unet._forward_hooks)
    x, t, cond = x0.repeat(2, 1, 1, 1), torch.tensor([3, 640]), network.condition(["red apple", "cat"])
    own = network.predict(x, t, cond)
    raw = network.unet(x, t, encoder_hidden_states=cond.tokens).sample
    with predicting(network, kind) as other:
        assert other.schedule.prediction_type == kind
        assert torch.allclose(other.predict(x, t, cond), own, atol=1e-5)
        assert torch.allclose(other.predict(x[1:], 640, cond[1]), own[1:], atol=1e-5)
        changed = network.unet(x, t, encoder_hidden_states=cond.tokens, return_dict=False)[0]
        assert torch.equal(changed, raw) == (kind == network.schedule.prediction_type)
    assert len(network.unet._forward_hooks) == hooks
    assert torch.equal(network.predict(x, t, cond), own)


def test_two_shapes_are_square_and_landscape(tiny_folder):
    from sfumato.api import Model

    square, landscape = two_shapes(Model(load_model(tiny_folder("sd"), "cpu")), tiny_image(50, 50))
    assert square.size == (32, 32)
    assert landscape.size == (40, 24)
