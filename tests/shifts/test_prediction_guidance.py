"""Guidance of the prediction: change of the mean, network evaluations, independence of runs."""

import math

import pytest
import torch
from torch.nn import functional as F

from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.core.loop import fresh_noise, reverse
from sfumato.core.path import repeat_first
from sfumato.core.step import predict_x0, sigma
from sfumato.errors import NonFinite
from sfumato.shifts.energy.class_token import SemanticDivergence
from sfumato.shifts.energy.prediction import Features, PredictionEnergy
from sfumato.shifts.energy.range_loss import RangeLoss, TargetPixels
from sfumato.shifts.prediction_guidance import GuidePrediction
from tests.exact.toy import linear_schedule

GENERATOR = torch.Generator().manual_seed(8)
X = torch.randn(2, 3, 8, 8, generator=GENERATOR, dtype=torch.float64)
WANTED = torch.randn(1, 3, 8, 8, generator=GENERATOR, dtype=torch.float64).tanh()
FIRST, LAST = (torch.randn(3, 3, 3, 3, generator=GENERATOR, dtype=torch.float64) / 3 for _ in range(2))
SEEDS, STEPS = (1, 2), 4


class Mixing:
    """A network in float64 whose output depends on neighbours and on the condition."""

    def __init__(self):
        self.schedule, self.calls = linear_schedule(), []

    def predict(self, x, t, cond, taps=None):
        self.calls.append(len(x))
        k = cond.tokens.double().mean(dim=(1, 2)).reshape(-1, 1, 1, 1)
        return F.conv2d(torch.sin(F.conv2d(x.double(), FIRST, padding=1) + k), LAST, padding=1) + 0.3 * x


class Denoising(Mixing):
    """The best denoiser of N(0, I)."""

    def predict(self, x, t, cond, taps=None):
        return math.sqrt(1 - self.schedule.abar(t)) * x


class Counting:
    """Decodes and extracts features, and counts both."""

    def __init__(self):
        self.decoded, self.extracted = 0, 0

    def decode(self, latents):
        self.decoded += 1
        return latents.tanh()

    def extract(self, pixels):
        self.extracted += 1
        return Features(pixels.flatten(2), pixels.mean(dim=(2, 3)))


def prompt(value):
    return Condition(tokens=torch.full((2, 3, 2), value))


def guide(parts, scale=0.7, counting=None, **options):
    networks = counting or Counting()
    return GuidePrediction(lambda: PredictionEnergy(parts, networks.decode, networks.extract, **options), scale)


def run(shifts, *, network=None, scale=1.0, eta=1.0, steps=STEPS, **options):
    network = network or Mixing()
    guided = classifier_free(network, prompt(0.1), (scale, scale))
    return list(
        reverse(guided, X, network.schedule.timesteps(steps), prompt(0.8), eta=eta, noise_maps=fresh_noise(SEEDS),
                shifts=shifts, source={-1: WANTED.expand(2, -1, -1, -1)}, seeds=SEEDS, **options)
    )  # fmt: skip


PIXELS = [(TargetPixels(WANTED), 5.0)]


def loss(P):
    return 5 * (P.tanh() - WANTED).square().mean(dim=(1, 2, 3)).sum()


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_mean_moves_by_the_ddpm_variance_times_the_gradient(through, eta, scale):
    """Through the network: the gradient of the prediction under the prompt. Otherwise that of the guided prediction."""
    guided, plain = (run(shifts, eta=eta, scale=scale)[0] for shifts in ([guide(PIXELS, through_network=through)], []))
    x, network = X.clone().requires_grad_(), Mixing()
    if through:
        P = predict_x0(x, network.predict(x, plain.t, prompt(0.8)), plain.abar)
        (gradient,) = torch.autograd.grad(loss(P), x)
    else:
        P = predict_x0(X, plain.eps, plain.abar).requires_grad_()
        gradient = torch.autograd.grad(loss(P), P)[0] / math.sqrt(plain.abar)
    expected = plain.mean - 0.7 * sigma(plain.abar, plain.abar_prev, 1.0) ** 2 * gradient
    torch.testing.assert_close(guided.mean, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(guided.eps, plain.eps, rtol=1e-12, atol=1e-12)
    assert gradient.abs().max() > 1e-6


def test_last_step_is_not_guided():
    counting = Counting()
    states = run([guide(PIXELS, counting=counting)])
    assert states[-1].abar_prev == 1
    plain = predict_x0(states[-1].x_t, states[-1].eps, states[-1].abar)
    assert torch.equal(states[-1].x0_prediction, plain)
    assert counting.decoded == STEPS - 1


@pytest.mark.parametrize(("through", "scale", "calls"), [(True, 1.0, [2] * STEPS), (False, 3.0, [4] * STEPS)])
def test_losses_share_one_pass_of_every_network(through, scale, calls):
    network, counting = Mixing(), Counting()
    parts = [*PIXELS, (RangeLoss(), 2.0), (SemanticDivergence(0), 1.0)]
    run([guide(parts, counting=counting, through_network=through)], network=network, scale=scale)
    assert network.calls == calls
    assert (counting.decoded, counting.extracted) == (STEPS, STEPS)


def test_guidance_through_the_network_adds_no_rows():
    network = Mixing()
    run([guide(PIXELS)], network=network, scale=3.0)
    assert sum(network.calls) == 4 * STEPS


def test_guidance_reduces_the_final_loss():
    moved = [guide(PIXELS, scale=100.0)]
    guided, plain = (run(each, steps=20, network=Denoising())[-1].x_prev for each in (moved, []))
    assert loss(guided) < 0.5 * loss(plain)


def test_runs_with_the_same_shift_are_independent():
    shift = guide([(SemanticDivergence(0), 3.0), *PIXELS])
    first, second = (run([shift], path=repeat_first(STEPS, 3)) for _ in range(2))
    assert len(first) == STEPS + 2
    assert torch.equal(first[-1].x_prev, second[-1].x_prev)


@pytest.mark.parametrize("through", [True, False])
def test_non_finite_gradient_is_refused_with_its_name(through):
    class Broken:
        def against(self, source):
            return lambda image: (image.pixels - image.pixels.detach()).abs().sqrt().sum(dim=(1, 2, 3))

    with pytest.raises(NonFinite, match=r"Step 1 of 4 \(timestep \d+\): the gradient of losses \(broken\) contains"):
        run([guide([*PIXELS, (Broken(), 1.0)], through_network=through)])


class Enlarging(Counting):
    """Decodes with an interpolation whose derivatives PyTorch cannot batch."""

    def decode(self, latents):
        return F.interpolate(super().decode(latents), scale_factor=2, mode="bicubic", antialias=True)


def test_two_guidances_share_a_pass_and_add_up():
    wanted = F.interpolate(WANTED, scale_factor=2)
    parts = [(TargetPixels(wanted), 5.0)], [(TargetPixels(-wanted), 3.0)]
    first, second = ([guide(each, counting=Enlarging())] for each in parts)
    one, other, plain = (run(shifts)[0].mean for shifts in (first, second, []))
    network = Mixing()
    both = run([guide(each, counting=Enlarging()) for each in parts], network=network)[0].mean
    torch.testing.assert_close(both - plain, (one - plain) + (other - plain), rtol=1e-9, atol=1e-12)
    assert network.calls == [2] * STEPS
