"""Paths between latents, their lengths, and animations."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.core.noise import gaussian_batch
from sfumato.errors import BadInput
from sfumato.geometry import BottleneckMap, Passes, counting_passes, geodesic_distance, local_basis
from sfumato.geometry.paths import lerp, path, path_lengths, perceptual_lengths, slerp
from sfumato.images.animation import write_animation
from tests.geometry.conftest import T, condition, latents


def ends():
    a, b = (gaussian_batch((4, 8, 8), [seed, seed + 1], dtype=torch.float64) for seed in (0, 7))
    return a, b


def norm(x):
    return x.flatten(1).norm(dim=1)


def test_slerp_has_constant_norm_and_speed():
    a, b = ends()
    unit_a, unit_b = (x / norm(x).reshape(-1, 1, 1, 1) for x in (a, b))
    points = list(path("slerp", unit_a, unit_b, segments=7))
    assert len(points) == 8
    torch.testing.assert_close(points[0], unit_a)
    torch.testing.assert_close(points[-1], unit_b)
    angle = (unit_a * unit_b).sum(dim=(1, 2, 3)).arccos()
    for one, other in pairwise(points):
        torch.testing.assert_close(norm(one), torch.ones(2, dtype=torch.float64))
        torch.testing.assert_close((one * other).sum(dim=(1, 2, 3)).arccos(), angle / 7)
    # for equal norms it is the textbook formula
    w = angle.reshape(-1, 1, 1, 1)
    textbook = (torch.sin(0.7 * w) * unit_a + torch.sin(0.3 * w) * unit_b) / torch.sin(w)
    torch.testing.assert_close(slerp(unit_a, unit_b, 0.3), textbook)
    torch.testing.assert_close(norm(slerp(2 * unit_a, 4 * unit_b, 0.25)), torch.full((2,), 2.5, dtype=torch.float64))


def test_slerp_of_parallel_and_opposite_ends():
    a, _ = ends()
    torch.testing.assert_close(slerp(a, a, 0.4), a)
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    with pytest.raises(BadInput, match="opposite"):
        slerp(a, -2 * a, 0.5)
    torch.testing.assert_close(lerp(a, -a, 0.5), torch.zeros_like(a))


def test_lerp_reduces_the_norm_and_slerp_keeps_it():
    a, b = ends()
    assert bool((norm(lerp(a, b, 0.5)) < 0.8 * norm(a)).all())
    torch.testing.assert_close(norm(slerp(a, b, 0.5)), (norm(a) + norm(b)) / 2)


@pytest.fixture(scope="module")
def f(networks):
    network = networks("sd")
    return BottleneckMap(network, T, condition(network))


def test_geodesic_is_straighter_in_the_bottleneck_than_slerp(f, networks):
    """It has the given ends, and its image in H is not longer than that of slerp."""
    a = latents(networks("sd"))
    b = a + 0.5 * gaussian_batch((4, 8, 8), [5, 6], dtype=torch.float64)
    found = list(path("geodesic", a, b, segments=6, f=f, n=16))
    assert len(found) == 7
    assert torch.equal(found[0], a)
    assert torch.equal(found[-1], b)
    goal, start = f(b), f(a)
    detours = []
    for points in (found, list(path("slerp", a, b, segments=6))):
        h = torch.stack([f(x) for x in points])
        detours.append((h[1:] - h[:-1]).norm(dim=2).sum(dim=0) / (goal - start).norm(dim=1))
    assert bool((detours[0] <= detours[1]).all())
    assert bool((detours[0] >= 1 - 1e-9).all())


def test_path_lengths_equal_those_of_the_segments(f, networks):
    a = latents(networks("sd"))
    b = a + 0.3
    points = [lerp(a, b, share) for share in (0, 0.5, 1)]
    found = path_lengths(f, iter(points), 5)
    bases = [local_basis(f, x, 5) for x in points]
    torch.testing.assert_close(found.semantic[:, 1], geodesic_distance(bases[1].u, bases[2].u))
    torch.testing.assert_close(found.bottleneck[:, 0], (f(points[1]) - f(points[0])).norm(dim=1))
    torch.testing.assert_close(found.latent, torch.full((2, 2), 0.15 * math.sqrt(256), dtype=torch.float64))


def test_tangent_spaces_of_a_geodesic_are_those_of_its_lengths(f, networks):
    a = latents(networks("sd"))
    b = a + 0.5 * gaussian_batch((4, 8, 8), [5, 6], dtype=torch.float64)
    spaces = []
    points = list(path("geodesic", a, b, segments=4, f=f, n=5, callback=spaces.append))
    assert len(spaces) == 3
    wanted = path_lengths(f, iter(points), 5)
    with counting_passes() as passes:
        found = path_lengths(f, iter(points), 5, spaces)
    for name in ("semantic", "bottleneck", "latent"):
        assert torch.equal(getattr(found, name), getattr(wanted, name))
    assert passes == Passes(forward=2 * 2, vjp=2 * 2 * 16)  # the last two points of two paths


def test_perceptual_lengths():
    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 2, 2)
    found = perceptual_lengths(images, lambda a, b: (a - b).square().mean(dim=(1, 2, 3)))
    assert found.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "arc"}, "path must be one of"),
        ({"b": torch.zeros(2, 4, 8, 16)}, "latents of one shape"),
        ({"segments": 0}, "at least 1 segment"),
        ({"kind": "geodesic"}, "needs the map"),
    ],
)
def test_bad_paths_are_refused(changes, message):
    a, b = ends()
    with pytest.raises(BadInput, match=message):
        path(**{"kind": "lerp", "a": a, "b": b, **changes})


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_animation_frames_size_and_duration(tmp_path, name):
    frames = [np.full((9, 12, 3), 60 * n, np.uint8) for n in range(4)]
    write_animation(tmp_path / name, frames, fps=10, bounce=True)
    with Image.open(tmp_path / name) as image:
        assert (image.size, image.n_frames) == ((12, 9), 6)
        shown = []
        for n in range(image.n_frames):
            image.seek(n)
            shown.append(int(np.asarray(image.convert("RGB"))[0, 0, 0]))
            assert image.info["duration"] == 100
        assert shown == [0, 60, 120, 180, 120, 60]


def test_bad_animations_are_refused(tmp_path):
    frame = np.zeros((4, 4, 3), np.uint8)
    for frames, name, fps, message in (
        ([frame], "a.mp4", 12, "extension must be one of"),
        ([frame], "a.gif", 0, "speed must be above 0"),
        ([], "a.gif", 12, "needs at least one frame"),
        ([frame, frame[:2]], "a.gif", 12, "all of one size"),
    ):
        with pytest.raises(BadInput, match=message):
            write_animation(tmp_path / name, frames, fps=fps)
