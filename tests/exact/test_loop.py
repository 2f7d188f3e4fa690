"""The loop: shifts meet their handle in order, guidance is its formula, a held mask holds, a NaN is named."""

import pytest
import torch

from sfumato.core.guidance import Guided
from sfumato.core.loop import fresh_noise, reverse
from sfumato.core.shift import Shift
from sfumato.core.step import noise_scale, predict_x0
from sfumato.errors import NonFinite
from sfumato.inversion import invert_edit_friendly, replay
from sfumato.shifts import HoldOutside
from tests.exact.toy import Convolution, finished, linear_schedule, prompt

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def run(shifts=(), network=None, eta=1.0, x=X, steps=5):
    network = network or Convolution(linear_schedule())
    states = reverse(
        network,
        x,
        network.schedule.timesteps(steps),
        prompt(len(x)),
        eta=eta,
        noise_maps=fresh_noise([0] * len(x)),
        shifts=shifts,
    )
    return list(states)


def test_no_shift_moves_nothing():
    plain, shifted = run(), run([Shift(), Shift()])
    assert all(torch.equal(a.x_prev, b.x_prev) for a, b in zip(plain, shifted, strict=True))


def test_shifts_compose_in_order():
    class Scale(Shift):
        def noise(self, state, eps):
            return 2 * eps

    class Add(Shift):
        def noise(self, state, eps):
            return eps + 1

    def first_noise(shifts):
        return run(shifts, steps=2)[0].eps

    plain = first_noise([])
    assert torch.allclose(first_noise([Scale(), Add()]), 2 * plain + 1)
    assert torch.allclose(first_noise([Add(), Scale()]), 2 * (plain + 1))


def test_every_handle_is_reached_with_what_is_known_by_then():
    seen = []

    class All(Shift):
        def condition(self, state, condition):
            seen.append(("condition", state.eps is None))
            return prompt(2, 0.9)

        def latent(self, state, x):
            seen.append(("latent", state.condition.tokens.mean() > 0.8))
            return x + 0.1

        def taps(self, state):
            seen.append(("taps", torch.allclose(state.x_t, X + 0.1) or state.i > 0))
            return None

        def noise(self, state, eps):
            seen.append(("noise", state.x0_prediction is None))
            return eps

        def prediction(self, state, prediction):
            seen.append(("prediction", torch.equal(prediction, predict_x0(state.x_t, state.eps, state.abar))))
            return torch.zeros_like(prediction)

        def noise_map(self, state, z):
            seen.append(("noise_map", state.mean is not None and not state.x0_prediction.any()))
            return z

    run([All()], steps=1)
    assert [name for name, _ in seen] == ["condition", "latent", "taps", "noise", "prediction", "noise_map"]
    assert all(ok for _, ok in seen)


def test_taps_reach_the_network():
    class Network(Convolution):
        def predict(self, x, t, cond, taps=None):
            self.taps = taps
            return super().predict(x, t, cond)

    class Tap(Shift):
        def taps(self, state):
            return "read"

    network = Network(linear_schedule())
    run([Tap(), Shift(), Tap()], network)
    assert network.taps == ("read", "read")
    run([Shift()], network)
    assert network.taps is None


def test_a_moved_prediction_leaves_the_direction():
    class Move(Shift):
        def prediction(self, state, prediction):
            return prediction + 1

    plain, moved = run(steps=3)[0], run([Move()], steps=3)[0]
    assert torch.allclose(moved.mean - plain.mean, torch.full_like(plain.mean, plain.abar_prev**0.5))


def test_guidance_is_its_formula():
    network, x = Convolution(linear_schedule()), X
    strengths = (3.0, 0.5)
    guided = Guided(network, prompt(2, 0.0), strengths).predict(x, 500, prompt(2, 0.7))
    assert (network.calls, network.samples) == (1, 4)
    positive, negative = network.predict(x, 500, prompt(2, 0.7)), network.predict(x, 500, prompt(2, 0.0))
    for row, s in enumerate(strengths):
        expected = negative[row] + s * (positive[row] - negative[row])
        assert torch.allclose(guided[row], expected, atol=1e-5)


def test_guidance_of_half_precision_is_added_in_float32():
    class Half(Convolution):
        def predict(self, x, t, cond, taps=None):
            return super().predict(x, t, cond).bfloat16()

    eps = Guided(Half(linear_schedule()), prompt(2, 0.0), (7.0, 7.0)).predict(X, 500, prompt(2, 0.7))
    assert eps.dtype == torch.float32


def test_noise_is_fresh_at_every_step_and_absent_without_sigma():
    states = run(steps=5)
    drawn = [state.z for state in states]
    assert drawn[-1] is None
    assert states[-1].sigma == 0
    assert not torch.equal(drawn[0], drawn[1])
    assert all(state.z is None for state in run(eta=0.0))


def test_a_held_region_never_leaves_the_source():
    network = Guided(Convolution(linear_schedule()), prompt(2, 0.0), (3.5, 3.5))
    inversion, _ = finished(invert_edit_friendly(network, X, prompt(2), steps=12, seeds=[0, 1], exact=True))
    inside = torch.zeros(2, 1, 8, 8)
    inside[:, :, 2:5, 3:6] = 1
    outside = (inside == 0).expand_as(X)
    for skip in (0, 4):
        held = [HoldOutside(inversion.x, inside)]
        for state in replay(network, inversion, prompt(2, 0.9), skip=skip, shifts=held):
            source = inversion.x[skip + state.i + 1]
            assert torch.equal(state.x_prev[outside], source[outside])
        assert (state.x_prev - X)[~outside].abs().max() > 1e-3


def test_a_nan_is_named_with_its_step():
    class Broken(Convolution):
        def predict(self, x, t, cond, taps=None):
            return super().predict(x, t, cond) * (torch.nan if t == 400 else 1)

    with pytest.raises(NonFinite, match=r"Step 3 of 5 \(timestep 400\): the predicted noise"):
        run(network=Broken(linear_schedule()))

    class Infinite(Shift):
        def noise_map(self, state, z):
            return None if z is None else z / 0

    with pytest.raises(NonFinite, match=r"Step 1 of 5 .*latent"):
        run([Infinite()])


def test_the_callers_grad_mode_is_left_alone():
    network = Convolution(linear_schedule())
    for _ in reverse(network, X, [500, 0], prompt(2), eta=0.0, noise_maps=fresh_noise([0, 0])):
        assert torch.is_grad_enabled()


def test_noise_scale():
    assert noise_scale(0.3) == 0.3
    assert noise_scale(0.0) == 1.0
