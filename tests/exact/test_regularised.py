"""Regularised inversion: the losses against plain loops, their gradients, and the statistics of the noise."""

import pytest
import torch

from sfumato.core.guidance import classifier_free
from sfumato.inversion import invert_ddim, replay
from sfumato.inversion.regularised import OFFICIAL, Regulariser, divergence, invert_regularised, pairwise, rolled
from tests.exact.toy import Convolution, finished, prompt, stable_diffusion_schedule

SHAPE = (2, 3, 16, 20)


def white(shape=SHAPE, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(shape=(3, 4, 16, 16), seed=1):
    """Similar to the latent of an image: neighbours are correlated and the standard deviation is not 1."""
    return 1.5 * torch.nn.functional.interpolate(white((*shape[:2], 4, 4), seed), shape[2:], mode="bilinear") + 0.3


def correlation(noise):
    """Mean square of the autocorrelation over all shifts but zero, by the Fourier transform; white noise: 1 / cells."""
    centred = noise - noise.mean(dim=(2, 3), keepdim=True)
    power = torch.fft.fft2(centred).abs().square()
    coefficients = torch.fft.ifft2(power).real / power.mean(dim=(2, 3), keepdim=True)
    return float(coefficients.flatten(2)[..., 1:].square().mean())


def not_normal(noise):
    """How far from N(0, 1) and from white, per statistic."""
    return {
        "mean": float(noise.mean(dim=(1, 2, 3)).abs().mean()),
        "variance": float((noise.var(dim=(1, 2, 3)) - 1).abs().mean()),
        "autocorrelation": correlation(noise),
    }


def test_rows_are_rolled_by_their_own_shifts():
    x, shift = white(), torch.tensor([3, 7])
    for axis in (2, 3):
        expected = torch.stack([torch.roll(x[b], int(shift[b]), axis - 1) for b in range(2)])
        assert torch.equal(rolled(x, shift, axis), expected)


def test_pairwise_loss_equals_the_sum_over_the_pyramid():
    x, shifts = white(), torch.tensor([[[3, 7], [2, 9]], [[1, 4], [5, 2]]])
    for row in range(2):
        expected, level = 0.0, x[row]
        for p in range(2):
            for axis in (0, 1):
                moved = torch.roll(level, int(shifts[p, axis, row]), axis + 1)
                expected += sum(float((level[c] * moved[c]).mean()) ** 2 for c in range(3))
            level = 2 * level.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).mean(dim=(2, 4))
        assert float(pairwise(x, shifts)[row]) == pytest.approx(expected, rel=1e-12)


def test_divergence_equals_twice_the_kl_divergence():
    x = 1.7 * white() + 0.4
    for row, value in zip(x, divergence(x), strict=True):
        own = torch.distributions.Normal(row.mean(), row.std())
        unit = torch.distributions.Normal(*torch.tensor([0.0, 1.0], dtype=torch.float64))
        assert float(value) == pytest.approx(2 * float(torch.distributions.kl_divergence(own, unit)), abs=1e-6)


def test_gradients_equal_finite_differences():
    x = white((2, 2, 10, 12)).requires_grad_()
    shifts = Regulariser().shifts((10, 12), [0, 1], 5)[0]
    assert torch.autograd.gradcheck(lambda x: pairwise(x, shifts), x)
    assert torch.autograd.gradcheck(divergence, x)


def test_shifts_cover_one_to_half_the_side():
    shifts = Regulariser().shifts((16, 20), range(40), 981)
    assert shifts.shape == (25, 2, 2, 40)
    for level, halves in enumerate(((8, 10), (4, 5))):
        for axis, half in enumerate(halves):
            assert shifts[:, level, axis].unique().tolist() == list(range(1, half + 1))


def test_shifts_depend_on_seed_and_timestep():
    together = Regulariser().shifts((16, 16), [4, 9], 21)
    assert torch.equal(together[..., 1], Regulariser().shifts((16, 16), [9], 21)[..., 0])
    assert not torch.equal(together[..., 0], together[..., 1])
    assert not torch.equal(together, Regulariser().shifts((16, 16), [4, 9], 41))


def test_losses_decrease_and_white_noise_hardly_changes():
    n = 1.2 * white((3, 4, 16, 16), seed=4) + 0.3 * smooth()
    shifts = torch.stack([torch.stack([torch.full((2, 3), d), torch.full((2, 3), 1)]) for d in range(1, 9)])
    moved = Regulariser()(n, [0, 1, 2], 500)
    before, after = (sum(pairwise(each, shift) for shift in shifts) for each in (n, moved))
    assert (after < 0.7 * before).all()
    assert (divergence(moved) < 0.7 * divergence(n)).all()
    noise = white((3, 4, 16, 16), seed=5)
    ours, public = ((each(noise, [0, 1, 2], 500) - noise).square().mean() for each in (Regulariser(), OFFICIAL))
    assert public < ours < 0.05  # without the factor of the pyramid, coarse levels hardly move the noise


def test_loss_decreases_for_input_far_from_noise():
    n = 3 * smooth()
    moved = Regulariser()(n, [0, 1, 2], 500)
    shifts = Regulariser().shifts((16, 16), [3, 4, 5], 1)
    before, after = (sum(pairwise(each, shift) for shift in shifts) for each in (n, moved))
    assert (after < 0.1 * before).all()


def test_rows_are_independent():
    n = smooth()
    assert torch.allclose(Regulariser()(n, [3, 4, 5], 7)[1:2], Regulariser()(n[1:2], [4], 7), atol=1e-12)


def test_constant_input_gives_finite_output():
    assert Regulariser()(torch.full((1, 4, 8, 8), 0.5), [0], 1).isfinite().all()


def inverted(network, x0, **options):
    guided = classifier_free(network, prompt(len(x0), 0.0), (1.0,) * len(x0))
    inversion, states = finished(invert_regularised(guided, x0, prompt(len(x0)), steps=12, seeds=[5, 6, 7], **options))
    return guided, inversion, states


def test_noise_is_closer_to_normal_than_with_ddim():
    x0 = smooth().float()
    network = Convolution(stable_diffusion_schedule("v_prediction"))
    guided, ours, states = inverted(network, x0)
    assert [state.i for state in states] == list(range(11, -1, -1))
    assert network.calls == 12
    plain, _ = finished(invert_ddim(guided, x0, prompt(3), steps=12))
    better, worse = not_normal(ours.x[0]), not_normal(plain.x[0])
    for name in worse:
        assert better[name] < worse[name], name
    assert better["autocorrelation"] < 0.5 * worse["autocorrelation"]


def test_exact_inversion_reconstructs_the_image():
    x0 = smooth().float()
    network = Convolution(stable_diffusion_schedule())
    guided, exact, _ = inverted(network, x0, exact=True)
    assert network.calls == 24
    assert float((list(replay(guided, exact, prompt(3)))[-1].x_prev - x0).abs().max()) < 1e-9
    guided, paper, _ = inverted(network, x0)
    assert paper.z is None
    assert torch.equal(paper.x, exact.x)
    assert float((list(replay(guided, paper, prompt(3)))[-1].x_prev - x0).abs().max()) > 1e-3
