"""Transport and shooting along directions of the bottleneck."""

import math
from itertools import pairwise

import pytest
import torch

from sfumato.core.noise import gaussian
from sfumato.errors import BadInput
from sfumato.geometry import (
    BottleneckMap,
    Passes,
    counting_passes,
    local_basis,
    pull_back,
    shoot,
    shoot_straight,
    transport,
)
from tests.geometry.conftest import T, condition, latents


@pytest.fixture(scope="module")
def f(networks):
    network = networks("sd")
    return BottleneckMap(network, T, condition(network))


@pytest.fixture(scope="module")
def x(networks):
    return latents(networks("sd"))


def test_transport_projects_onto_the_tangent_space(f, x):
    basis = local_basis(f, x, 5)
    for i in (0, 4):
        coefficients, angle = transport(basis, basis.u[:, i])
        assert float(angle.abs().max()) < 1e-7
        torch.testing.assert_close(pull_back(basis, coefficients), basis.v[:, i])
    slanted = math.cos(0.3) * basis.u[:, 1] + math.sin(0.3) * _outside(basis)
    coefficients, angle = transport(basis, slanted)
    torch.testing.assert_close(angle, torch.full((2,), 0.3, dtype=torch.float64))
    torch.testing.assert_close(basis.combine(coefficients), basis.u[:, 1])
    with pytest.raises(BadInput, match="orthogonal to the tangent space of 5 directions"):
        transport(basis, _outside(basis))


def _outside(basis):
    """A unit vector of H orthogonal to the tangent space."""
    w = gaussian(basis.h.shape, 3, dtype=torch.float64)
    w = w - basis.combine(basis.coefficients(w))
    w = w - basis.combine(basis.coefficients(w))
    return w / w.norm(dim=1, keepdim=True)


def test_jacobian_maps_pulled_back_vectors_to_the_direction(f, x):
    """J v' is parallel to u' for any mixture of directions: the coefficients are weighted by 1 / lambda."""
    basis = local_basis(f, x, 6)
    coefficients = gaussian((2, 6), 1, dtype=torch.float64)
    image = f.at(x).jvp(pull_back(basis, coefficients)[:, None])[:, 0]
    cosine = torch.nn.functional.cosine_similarity(image, basis.combine(coefficients), dim=1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    naive = torch.einsum("bnchw,bn->bchw", basis.v, coefficients)
    wrong = torch.nn.functional.cosine_similarity(f.at(x).jvp(naive[:, None])[:, 0], basis.combine(coefficients), dim=1)
    assert bool((wrong < 0.99).all())


@pytest.mark.parametrize("gamma", [1e-4, -1e-4])
def test_small_steps_move_the_bottleneck_along_the_direction(f, x, gamma):
    basis = local_basis(f, x, 6)
    shots = list(shoot(f, x, basis.u[:, 0], gamma=gamma, steps=3, n=6))
    assert len(shots) == 3
    for shot in shots:
        torch.testing.assert_close(shot.length, shot.expected, rtol=1e-2, atol=0)
        torch.testing.assert_close(shot.u.norm(dim=1), torch.ones(2, dtype=torch.float64))
        torch.testing.assert_close(shot.v.flatten(1).norm(dim=1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(shots[0].expected, abs(gamma) * basis.values[:, 0])
    moved = f(shots[-1].x) - f(x)
    cosine = torch.nn.functional.cosine_similarity(moved, math.copysign(1, gamma) * basis.u[:, 0], dim=1)
    assert bool((cosine > 0.999).all())


def test_shooting_is_closer_to_the_direction_than_shoot_straight(f, x):
    """In H, the transported edit keeps its direction better than the straight line in X."""
    basis = local_basis(f, x, 16)
    target = basis.u[:, 0]
    sent = list(shoot(f, x, target, gamma=0.25, steps=8, n=16))
    straight = list(shoot_straight(f, x, basis.v[:, 0], gamma=0.25, steps=8))
    cosines = [torch.nn.functional.cosine_similarity(f(e[-1].x) - f(x), target, dim=1) for e in (sent, straight)]
    assert bool((cosines[0] > cosines[1]).all())
    assert float(sent[-1].angle.max()) < 1e-6  # all of H is tangent here
    assert float(straight[-1].angle.min()) > 1e-3


def test_shooting_does_not_depend_on_the_chunk(f, x):
    """A chunk of one row for two samples gives the same steps."""
    small = BottleneckMap(f.network, T, f.condition, chunk=1)
    v = gaussian(x.shape, 2, dtype=torch.float64)
    ways = [list(shoot_straight(each, x, v, gamma=0.5, steps=2)) for each in (f, small)]
    ways += [list(shoot(each, x, local_basis(each, x, 3).u[:, 0], gamma=0.5, steps=2, n=3)) for each in (f, small)]
    for whole, parts in ((ways[0], ways[1]), (ways[2], ways[3])):
        for one, other in zip(whole, parts, strict=True):
            for name in ("x", "u", "length", "expected"):
                torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-6)


def test_given_basis_is_used(f, x):
    basis = local_basis(f, x, 4)
    before = f.passes.total
    shot = next(shoot(f, x, basis.u[:, 2], gamma=1.0, steps=1, n=4, basis=basis))
    assert f.passes.total - before == 2  # only f(x')
    torch.testing.assert_close(shot.x, x + basis.v[:, 2])


def test_every_point_is_evaluated_once(f, x):
    """Three steps have four points; the evaluation at the end of a step is that at the start of the next one."""
    v = gaussian(x.shape, 2, dtype=torch.float64)
    u = local_basis(f, x, 16).u[:, 0]
    for work, products in (
        (lambda: shoot_straight(f, x, v, gamma=0.5, steps=3), {"jvp": 3 * 2}),
        (lambda: shoot(f, x, u, gamma=0.5, steps=3, n=16), {"vjp": 3 * 2 * 16}),
    ):
        with counting_passes() as passes:
            shots = list(work())
        assert passes == Passes(forward=4 * 2, **products)
        points = [x, *(shot.x for shot in shots)]
        for shot, (one, other) in zip(shots, pairwise(points), strict=True):
            torch.testing.assert_close(shot.length, (f(other) - f(one)).norm(dim=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": math.inf}, "gamma must be a finite number"),
        ({"gamma": "1"}, "gamma must be a finite number"),
        ({"steps": 0}, "at least 1 step"),
        ({"steps": 1.5}, "at least 1 step"),
        ({"n": 17}, "n must be between 1 and 16"),
        ({"n": 0}, "n must be between 1 and 16"),
    ],
)
def test_bad_options_are_refused_before_any_evaluation(f, x, changes, message):
    calls = f.network.count.calls
    with pytest.raises(BadInput, match=message):
        shoot(f, x, torch.zeros(2, 16), **{"gamma": 1.0, "steps": 1, "n": 2, **changes})
    assert f.network.count.calls == calls
