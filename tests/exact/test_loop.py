"""The sampling loop: order of shifts, taps of the prediction, guidance, masks and errors on NaN."""

import math

import pytest
import torch

from sfumato.core.energy import Energy
from sfumato.core.guidance import classifier_free
from sfumato.core.loop import fresh_noise, reverse
from sfumato.core.shift import Shift
from sfumato.core.state import StepEnd, StepMean, StepNoise, StepState
from sfumato.core.step import combine, direction, mean, noise_scale, predict_x0, step
from sfumato.errors import BadInput, NonFinite
from sfumato.inversion import invert_edit_friendly, replay
from sfumato.shifts.mask import KeepOutsideMask
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


def test_empty_shifts_change_nothing():
    plain, shifted = run(), run([Shift(), Shift()])
    assert all(torch.equal(a.x_prev, b.x_prev) for a, b in zip(plain, shifted, strict=True))


def test_shifts_are_applied_in_order():
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


HOOKS = ["before_gradients", "refine", "latent", "noise", "prediction", "noise_map"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.zeros(2, 4, 7, 8), r"one of the shape \[2, 4, 7, 8\]"),
        (torch.zeros(1, 4, 1, 1), r"one of the shape \[1, 4, 1, 1\]"),
        (0.0, "float"),
    ],
)
@pytest.mark.parametrize("hook", HOOKS)
def test_values_of_another_shape_are_refused(hook, value, found):
    """Also those that broadcasting would accept."""
    custom = type("Custom", (Shift,), {hook: lambda self, state, given: value})
    with pytest.raises(
        BadInput, match=rf"^Custom\.{hook} must return .* \[2, 4, 8, 8\] of the latents, not {found}\.$"
    ):
        run([custom()])


@pytest.mark.parametrize("hook", ["before_gradients", "refine", "latent", "noise", "prediction"])
def test_a_hook_that_returns_nothing_is_refused(hook):
    custom = type("Custom", (Shift,), {hook: lambda self, state, given: None})
    with pytest.raises(BadInput, match=rf"^Custom\.{hook} must return .* not NoneType\.$"):
        run([custom()])


class Replacing(Shift):
    """Declares that it replaces "the words" in the first step."""

    def replaces(self, i, steps):
        return ("the words",) if i == 0 else ()


class Reading(Shift):
    """Declares that it reads "the words" from a step on."""

    def __init__(self, first):
        self.first = first

    def reads(self, i, steps):
        return ("the words",) if i >= self.first else ()


def test_reading_and_replacing_in_one_step_is_refused():
    network = Convolution(linear_schedule())
    for shifts in ([Replacing(), Reading(0)], [Reading(0), Replacing()]):
        with pytest.raises(BadInput, match="Replacing replaces and Reading reads the words in the same steps"):
            run(shifts, network)
    assert network.calls == 0
    run([Replacing(), Reading(1), Reading(1)], network)


HOOKS = {
    "condition": StepState,
    "taps": StepState,
    "energy": StepState,
    "latent": StepState,
    "noise": StepNoise,
    "prediction_taps": StepNoise,
    "prediction": StepNoise,
    "noise_map": StepMean,
}
"""The hooks in their order, and the type of the state that each receives."""


def test_hooks_are_called_in_order_with_their_state():
    seen = []

    class All(Shift):
        def condition(self, state, condition):
            seen.append(("condition", state, condition is state.condition))
            return prompt(2, 0.9)

        def taps(self, state):
            seen.append(("taps", state, state.taps == () and torch.equal(state.x_t, X)))
            return "tap"

        def energy(self, state):
            seen.append(("energy", state, state.taps == ("tap",) and state.condition.tokens.mean() > 0.8))
            return Energy(lambda x, eps: x.square().sum(dim=(1, 2, 3)) / 2)

        def latent(self, state, x):
            seen.append(("latent", state, x is state.x_t and torch.equal(state.gradient(self), x)))
            return x + 0.1

        def noise(self, state, eps):
            seen.append(("noise", state, eps is state.eps and torch.equal(state.x_t, X + 0.1)))
            return eps + 0.2

        def prediction_taps(self, state):
            seen.append(("prediction_taps", state, torch.equal(state.eps, predicted(state) + 0.2)))

        def prediction(self, state, prediction):
            seen.append(("prediction", state, torch.equal(prediction, predict_x0(state.x_t, state.eps, state.abar))))
            return torch.zeros_like(prediction)

        def noise_map(self, state, z):
            mean = combine(torch.zeros_like(state.mean), direction(state.eps, state.abar_prev, state.sigma), 1.0)
            seen.append(("noise_map", state, not state.x0_prediction.any() and torch.equal(state.mean, mean)))
            return None

    def predicted(state):
        return network.predict(state.x_t, state.t, state.condition)

    network = Convolution(linear_schedule())
    (end,) = run([All()], network, steps=1)
    assert {name: type(state) for name, state, _ in seen} == HOOKS
    assert [name for name, _, _ in seen] == list(HOOKS), "in this order, once each"
    assert [name for name, _, right in seen if not right] == []
    assert type(end) is StepEnd
    assert (end.z, end.network.network) == (None, network)
    assert torch.equal(end.x_prev, step(end.mean, None, end.sigma).to(X.dtype))


def test_taps_are_passed_to_the_network():
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


class Tapped(Convolution):
    """Multiplies its output by every tap, and records the taps of every evaluation."""

    def __init__(self, schedule):
        super().__init__(schedule)
        self.taps = []

    def predict(self, x, t, cond, taps=None):
        self.taps.append(list(taps or ()))
        return super().predict(x, t, cond) * math.prod(taps or ())


class Taps(Shift):
    """A tap of the step, and one of the prediction only."""

    def __init__(self, whole=None, prediction=None):
        self.keep_positions, self.of_prediction = whole, prediction

    def taps(self, state):
        return self.keep_positions

    def prediction_taps(self, state):
        return self.of_prediction


def test_prediction_taps_change_only_the_prediction():
    """P_t is computed from another noise than D_t (Asyrp); taps of the step act in both evaluations."""
    network = Tapped(linear_schedule())
    for state in run([Taps(0.5, 3.0), Taps(prediction=2.0)], network, eta=0.7):
        plain = network.predict(state.x_t, state.t, state.condition)
        assert torch.equal(state.eps, 0.5 * plain)
        moved = mean(state.x_t, 3.0 * plain, 0.5 * plain, state.abar, state.abar_prev, state.sigma)
        torch.testing.assert_close(state.mean, moved, rtol=1e-6, atol=1e-6)
        assert not torch.allclose(state.x0_prediction, predict_x0(state.x_t, state.eps, state.abar))
    assert network.taps[:2] == [[0.5], [0.5, 3.0, 2.0]]


def test_prediction_taps_add_one_evaluation_per_step():
    network = Tapped(linear_schedule())
    plain, tapped = run([Taps(0.5)], network), run([Taps(0.5), Taps(prediction=1.0)], network)
    assert [len(taps) for taps in network.taps] == [1] * 5 + [1, 2] * 5
    assert all(torch.equal(a.x_prev, b.x_prev) for a, b in zip(plain, tapped, strict=True))


def test_noise_shifts_apply_to_the_tapped_prediction():
    class Add(Shift):
        def noise(self, state, eps):
            return eps + 1

    network = Tapped(linear_schedule())
    plain, tapped = run([Add()], network), run([Add(), Taps(prediction=1.0)], network)
    assert all(torch.equal(a.x_prev, b.x_prev) for a, b in zip(plain, tapped, strict=True))


def test_non_finite_noise_of_the_prediction_is_refused():
    with pytest.raises(NonFinite, match=r"Step 1 of 5 \(timestep 800\): the noise of the prediction"):
        run([Taps(prediction=float("inf"))], Tapped(linear_schedule()))


def test_shifted_prediction_keeps_the_direction():
    class Move(Shift):
        def prediction(self, state, prediction):
            return prediction + 1

    plain, moved = run(steps=3)[0], run([Move()], steps=3)[0]
    assert torch.allclose(moved.mean - plain.mean, torch.full_like(plain.mean, plain.abar_prev**0.5))


def test_guidance_equals_its_formula():
    network, x = Convolution(linear_schedule()), X
    guidance_scales = (3.0, 0.5)
    guided = classifier_free(network, prompt(2, 0.0), guidance_scales).predict(x, 500, prompt(2, 0.7))
    assert (network.calls, network.samples) == (1, 4)
    positive, negative = network.predict(x, 500, prompt(2, 0.7)), network.predict(x, 500, prompt(2, 0.0))
    for row, s in enumerate(guidance_scales):
        expected = negative[row] + s * (positive[row] - negative[row])
        assert torch.allclose(guided[row], expected, atol=1e-5)


def test_guidance_of_bfloat16_predictions_is_float32():
    class Half(Convolution):
        def predict(self, x, t, cond, taps=None):
            return super().predict(x, t, cond).bfloat16()

    eps = classifier_free(Half(linear_schedule()), prompt(2, 0.0), (7.0, 7.0)).predict(X, 500, prompt(2, 0.7))
    assert eps.dtype == torch.float32


def test_noise_is_fresh_per_step_and_none_without_sigma():
    states = run(steps=5)
    drawn = [state.z for state in states]
    assert drawn[-1] is None
    assert states[-1].sigma == 0
    assert not torch.equal(drawn[0], drawn[1])
    assert all(state.z is None for state in run(eta=0.0))


def test_keep_outside_mask_keeps_the_source_outside():
    network = classifier_free(Convolution(linear_schedule()), prompt(2, 0.0), (3.5, 3.5))
    inversion, _ = finished(invert_edit_friendly(network, X, prompt(2), steps=12, seeds=[0, 1], exact=True))
    inside = torch.zeros(2, 1, 8, 8)
    inside[:, :, 2:5, 3:6] = 1
    outside = (inside == 0).expand_as(X)
    for skip in (0, 4):
        held = [KeepOutsideMask(inside)]
        for state in replay(network, inversion, prompt(2, 0.9), skip=skip, shifts=held):
            source = inversion.x[skip + state.i + 1]
            assert torch.equal(state.x_prev[outside], source[outside])
        assert (state.x_prev - X)[~outside].abs().max() > 1e-3


def test_nan_error_names_the_step():
    class Broken(Convolution):
        def predict(self, x, t, cond, taps=None):
            return super().predict(x, t, cond) * (torch.nan if t == 400 else 1)

    with pytest.raises(NonFinite, match=r"Step 3 of 5 \(timestep 400\): the predicted noise"):
        run(network=Broken(linear_schedule()))

    network = Convolution(linear_schedule())
    steps = reverse(network, X, network.schedule.timesteps(5), prompt(2), eta=1.0, noise_maps=lambda state: X / 0)
    with pytest.raises(NonFinite, match=r"Step 1 of 5 \(timestep 800\): the latent"):
        list(steps)


@pytest.mark.parametrize("hook", ["before_gradients", "refine", "latent", "noise", "prediction", "noise_map"])
def test_values_that_overflow_in_the_latents_precision_are_refused_with_the_hook(hook):
    def enlarged(self, state, given):
        return torch.full_like(given, 1e300, dtype=torch.float64)

    Custom = type("Custom", (Shift,), {hook: enlarged})
    with pytest.raises(NonFinite, match=rf"Step 1 of 5 \(timestep 800\): the result of the hook {hook} of Custom"):
        run([Custom()])
    named = Custom()
    named.name = "my guidance"
    with pytest.raises(NonFinite, match=rf"the result of the hook {hook} of my guidance contains"):
        run([named])


def test_grad_mode_is_unchanged():
    network = Convolution(linear_schedule())
    for _ in reverse(network, X, [500, 0], prompt(2), eta=0.0, noise_maps=fresh_noise([0, 0])):
        assert torch.is_grad_enabled()


def test_noise_scale():
    assert noise_scale(0.3) == 0.3
    assert noise_scale(0.0) == 1.0
