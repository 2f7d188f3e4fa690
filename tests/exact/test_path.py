"""Paths over noise levels: visited levels, network evaluations and noise of a run."""

from collections import Counter
from itertools import pairwise

import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.core.loop import fresh_noise, recorded, reverse
from sfumato.core.noise import gaussian_batch
from sfumato.core.path import check_path, downwards, first_at, repeat_first, resample
from sfumato.core.shift import Shift
from sfumato.core.step import add_noise_between
from sfumato.errors import BadInput
from tests.exact.toy import Convolution, linear_schedule, prompt

STEPS = 6


def test_fractions_of_a_run_are_those_of_exact_decimals():
    for count in (7, 10, 50, 60, 100, 1000):
        for hundredths in range(101):
            assert first_at(hundredths / 100, count) == -(-hundredths * count // 100), (hundredths, count)
    assert first_at(1 - 0.45, 100) == 55
    assert [first_at(share, 10) for share in (1e-12, 0.101, 0.199)] == [1, 2, 2]


def published(t_T, jump_length, jump_n_sample):
    """RePaint's times t (arXiv 2201.09865, appendix B; https://github.com/andreas128/RePaint), -1 is x_0."""
    jumps = {}
    for j in range(0, t_T - jump_length, jump_length):
        jumps[j] = jump_n_sample - 1
    t, ts = t_T, []
    while t >= 1:
        t = t - 1
        ts.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] = jumps[t] - 1
            for _ in range(jump_length):
                t = t + 1
                ts.append(t)
    ts.append(-1)
    return ts


def single_moves(path, steps):
    """RePaint's times of a path: time t is level steps - 1 - t, and every jump goes up by single moves."""
    levels = path[:1]
    for level, after in pairwise(path):
        levels += range(level - 1, after - 1, -1) if after < level else [after]
    return [steps - 1 - level for level in levels]


@pytest.mark.parametrize("steps", [1, 2, 6, 25, 250])
@pytest.mark.parametrize("jump", [1, 3, 10])
@pytest.mark.parametrize("times", [1, 2, 10])
def test_resample_equals_the_repaint_schedule(steps, jump, times):
    path = resample(steps, jump, times)
    check_path(path, steps)
    assert single_moves(path, steps) == published(steps, jump, times)


def test_downwards_visits_every_level_once():
    assert downwards(4) == [0, 1, 2, 3, 4]
    assert resample(4, 2, 1) == repeat_first(4, 1) == downwards(4)


def test_repeat_first_repeats_the_first_step():
    assert repeat_first(3, 3) == [0, 1, 0, 1, 0, 1, 2, 3]
    check_path(repeat_first(3, 3), 3)
    check_path(repeat_first(1, 2), 1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ([], "must lead from level 0 to level 3"),
        ([1, 2, 3], "must lead from level 0"),
        ([0, 1, 2], "must lead from level 0 to level 3"),
        ([0, 2, 3], "not from level 0 to 2"),
        ([0, 1, 1, 2, 3], "not from level 1 to 1"),
        ([0, 1, 2, -1, 0, 1, 2, 3], "not from level 2 to -1"),
        ([0, 1, 2, 3, 4, 3], "not from level 3 to 4"),
    ],
)
def test_invalid_paths_are_refused_before_any_evaluation(path, message):
    with pytest.raises(BadInput, match=message):
        check_path(path, 3)
    network = Convolution(linear_schedule())
    if path:
        with pytest.raises(BadInput, match=message):
            next(run(network, path, steps=3))
    assert network.calls == 0


class Gaussian:
    """The exact denoiser of Gaussian data with mean 0 and the given standard deviation: eps is linear in x."""

    def __init__(self, deviation=0.5):
        self.schedule, self.variance = linear_schedule(), deviation**2

    def factor(self, abar):
        """The factor of x_t in eps."""
        return (1 - abar) ** 0.5 / (abar * self.variance + 1 - abar)

    def predict(self, x, t, cond, taps=None):
        return self.factor(self.schedule.abar(t)) * x


def run(network, path, *, steps=STEPS, seeds=(0,), size=8, eta=1.0, **options):
    x = torch.randn(len(seeds), 4, size, size, generator=torch.Generator().manual_seed(1))
    options = {"noise_maps": fresh_noise(seeds), "seeds": seeds, **options}
    timesteps = network.schedule.timesteps(steps)
    return reverse(network, x, timesteps, prompt(len(seeds)), eta=eta, path=path, **options)


@pytest.mark.parametrize("path", [repeat_first(STEPS, 4), resample(STEPS, 2, 3), [0, 1, 2, 1, 0, 1, 2, 3, 4, 5, 6]])
def test_only_steps_down_evaluate_the_network(path):
    network = Convolution(linear_schedule())
    states = list(run(network, path))
    down = [level for level, after in pairwise(path) if after > level]
    assert network.calls == len(states) == len(down)
    assert [state.i for state in states] == down
    timesteps = network.schedule.timesteps(STEPS)
    assert [(state.t, state.t_prev) for state in states] == [(timesteps[i], [*timesteps, -1][i + 1]) for i in down]
    visits = Counter()
    for state in states:
        assert state.visit == visits[state.i]
        visits[state.i] += 1


def test_downwards_path_equals_the_run_without_a_path():
    network = Convolution(linear_schedule())
    for a, b in zip(run(network, ()), run(network, downwards(STEPS)), strict=True):
        assert torch.equal(a.x_prev, b.x_prev)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_variance_along_a_path_equals_the_closed_form(eta):
    """x_s = sqrt(abar_s / abar_t) x_t + sqrt(1 - abar_s / abar_t) e: all steps are linear, so variances are known."""
    network, path = Gaussian(), [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 6]
    timesteps = network.schedule.timesteps(STEPS)
    abars = [network.schedule.abar(t) for t in [*timesteps, -1]]
    variance, states = 1.0, iter(list(run(network, path, size=256, eta=eta)))
    for level, after in pairwise(path):
        if after < level:
            share = abars[after] / abars[level]
            variance = share * variance + 1 - share
            continue
        state = next(states)
        assert float(state.x_t.var()) == pytest.approx(variance, rel=0.01)
        k, abar = network.factor(state.abar), state.abar
        prediction = (1 - (1 - abar) ** 0.5 * k) / abar**0.5
        slope = state.abar_prev**0.5 * prediction + (1 - state.abar_prev - state.sigma**2) ** 0.5 * k
        variance = slope**2 * variance + state.sigma**2
        assert float(state.x_prev.var()) == pytest.approx(variance, rel=0.01)


def test_two_moves_up_equal_one_larger_move():
    """q(x_u | x_t) of two moves up is that of one: means multiply, variances add."""
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    low, middle, high = 0.9, 0.5, 0.2
    scale = add_noise_between(add_noise_between(one, zero, low, middle), zero, middle, high)
    torch.testing.assert_close(scale, add_noise_between(one, zero, low, high))
    parts = (
        add_noise_between(add_noise_between(zero, one, low, middle), zero, middle, high),
        add_noise_between(zero, one, middle, high),
    )
    torch.testing.assert_close(parts[0] ** 2 + parts[1] ** 2, add_noise_between(zero, one, low, high) ** 2)


def noise_of_the_way_up(before, after, network):
    """e of x_s = sqrt(abar_s / abar_t) x_t + sqrt(1 - abar_s / abar_t) e, from the steps around a move up."""
    share = after.abar / network.schedule.abar(before.t_prev)
    return (after.x_t - share**0.5 * before.x_prev) / (1 - share) ** 0.5


def uncorrelated(a, b):
    correlation = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    return float(correlation.abs()) < 5 / a.numel() ** 0.5


def test_repeated_steps_and_moves_up_use_fresh_noise():
    network = Gaussian()
    states = list(run(network, repeat_first(STEPS, 3), size=32))[:3]
    ups = [noise_of_the_way_up(a, b, network) for a, b in pairwise(states)]
    noises = [state.z for state in states] + ups
    for n, noise in enumerate(noises):
        assert float(noise.std()) == pytest.approx(1, rel=0.05)
        assert all(uncorrelated(noise, other) for other in noises[:n])


def test_first_visits_use_the_noise_without_a_path():
    for path in ((), resample(STEPS, 2, 2)):
        for state in run(Gaussian(), path, seeds=(4,)):
            if state.visit == 0 and state.sigma > 0:
                assert torch.equal(state.z, gaussian_batch((4, 8, 8), [4], step=state.t, tag="reverse"))


def test_runs_in_a_batch_depend_only_on_their_seed():
    path = resample(STEPS, 2, 3)
    together = list(run(Gaussian(), path, seeds=(5, 6, 7)))
    again = list(run(Gaussian(), path, seeds=(5, 6, 7)))
    others = list(run(Gaussian(), path, seeds=(5, 8, 7)))
    assert all(torch.equal(a.x_prev, b.x_prev) for a, b in zip(together, again, strict=True))
    last, other = together[-1].x_prev, others[-1].x_prev
    assert torch.equal(last[[0, 2]], other[[0, 2]])
    assert not torch.allclose(last[1], other[1])
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))[1:2]
    timesteps = linear_schedule().timesteps(STEPS)
    options = {"eta": 1.0, "noise_maps": fresh_noise([6]), "seeds": [6], "path": path}
    *_, alone = reverse(Gaussian(), x, timesteps, prompt(1), **options)
    assert torch.equal(alone.x_prev, last[1:2])


def test_repeated_steps_of_a_replay_use_fresh_noise():
    z = torch.randn(STEPS, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    for state in run(Gaussian(), repeat_first(STEPS, 3), noise_maps=recorded(z, [4])):
        again = gaussian_batch((4, 8, 8), [4], step=state.t, tag=f"reverse {state.visit}")
        assert torch.equal(state.z, again if state.visit else z[state.i])


def test_repeated_steps_keep_the_noise_variance():
    """With x_0 = 0 known, the noise in x_{t-1} has the variance 1 - abar_{t-1}, however often the step runs."""
    z = torch.randn(STEPS, 1, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    states = list(run(Gaussian(0.0), repeat_first(STEPS, 10), size=64, noise_maps=recorded(z)))
    repeated = [state for state in states if state.i == 0]
    assert len(repeated) == 10
    for state in repeated:
        assert float(state.x_prev.std()) == pytest.approx((1 - state.abar_prev) ** 0.5, rel=0.05)


def test_state_contains_the_number_of_visits():
    class Watch(Shift):
        def __init__(self):
            self.seen = []

        def latent(self, state, x):
            self.seen.append((state.i, state.visit, state.steps))
            return x

    watch = Watch()
    list(run(Gaussian(), [0, 1, 2, 0, 1, 2, 3], steps=3, shifts=[watch]))
    assert watch.seen == [(0, 0, 3), (1, 0, 3), (0, 1, 3), (1, 1, 3), (2, 0, 3)]


@pytest.mark.parametrize(("seeds", "same"), [((), True), ((5, 5), True), ((5, 6), False)])
def test_noise_of_moves_up_depends_on_the_seed(seeds, same):
    network, x = Gaussian(), torch.zeros(2, 4, 8, 8)
    options = {"eta": 0.0, "noise_maps": recorded(None), "path": repeat_first(2, 2), "seeds": seeds}
    states = list(reverse(network, x, network.schedule.timesteps(2), Condition(rows=2), **options))
    assert torch.equal(*states[1].x_t) == same
    assert states[1].x_t.any()
