"""Noise is a function of only (tag, seed, image, step)."""

import torch

from sfumato.core.noise import gaussian, gaussian_batch

SHAPE = (4, 8, 8)


def test_noise_is_deterministic_and_keeps_global_state():
    before = torch.get_rng_state()
    first = gaussian(SHAPE, 1, 2, 3, tag="a")
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(first, gaussian(SHAPE, 1, 2, 3, tag="a"))
    assert torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(before)


def test_noise_depends_on_every_argument():
    draws = [
        gaussian(SHAPE, *key, tag=tag)
        for key in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (12, 3, 0), (1, 23, 0), (-1, 2, 3))
        for tag in ("a", "b")
    ]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert abs(float((a * b).mean())) < 0.3


def test_batch_rows_equal_single_draws():
    batch = gaussian_batch(SHAPE, [5, 6], [0, 1], 7)
    assert torch.equal(batch[1], gaussian(SHAPE, 6, 1, 7))
    assert torch.equal(gaussian_batch(SHAPE, [5, 6], step=7)[1], gaussian(SHAPE, 6, 0, 7))


def test_noise_is_standard_normal():
    draws = gaussian((100, 100), 0)
    assert abs(float(draws.mean())) < 0.05
    assert abs(float(draws.std()) - 1) < 0.05
    assert gaussian(SHAPE, 0, dtype=torch.float64).dtype == torch.float64
