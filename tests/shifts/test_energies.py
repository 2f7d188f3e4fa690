"""Energies of words: gradients against finite differences in float64, values against their definitions."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from diffusers import StableDiffusionAttendAndExcitePipeline

from sfumato.core.guidance import classifier_free
from sfumato.core.noise import gaussian
from sfumato.core.rows import TARGET, Rows
from sfumato.core.state import StepState
from sfumato.core.step import sigma
from sfumato.errors import NonFinite
from sfumato.inversion import Inversion, replay, with_source
from sfumato.models.attention import Layers
from sfumato.models.layout import word_layers
from sfumato.models.load import load_model
from sfumato.models.references import References
from sfumato.shifts.alignment import token_weights
from sfumato.shifts.energy.appearance import Appearance, mean_features
from sfumato.shifts.energy.box import Box, box_mask
from sfumato.shifts.energy.centroid import Centroid
from sfumato.shifts.energy.guidance import LatentGuidance, NoiseGuidance, thirds, window
from sfumato.shifts.energy.maps import centroid, hard_mask, size, soft_mask, warped
from sfumato.shifts.energy.pairs import AttributeBinding, ObjectOverlap, overlap
from sfumato.shifts.energy.presence import PUBLISHED_DEVIATION, Presence, smoothed
from sfumato.shifts.energy.shape import Shape
from sfumato.shifts.energy.size import Size
from sfumato.shifts.energy.warp import Warp
from sfumato.shifts.energy.word import Word, WordTerm
from sfumato.shifts.words import WordMaps

STEPS, SIZE = 4, (16, 16)


@pytest.fixture(scope="module")
def model(tiny_sd_folder):
    """In float64, so that finite differences are exact enough."""
    model = load_model(tiny_sd_folder, "cpu")
    model.unet.double()
    return model


@pytest.fixture(scope="module")
def run(model):
    """Guidance with the source, an inversion of random latents, the source and the target condition."""
    x = torch.randn(STEPS + 1, 2, 4, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inversion = Inversion("ddim", x, None, tuple(model.schedule.timesteps(STEPS)), 0.0, (1.0, 1.0))
    guided = classifier_free(model, model.condition(["", ""]), (1.0, 1.0))
    source = model.condition(["red cat", "blue cat"])
    return with_source(guided, inversion, source), inversion, source, model.condition(["green cat", "tree cat"])


def word(model, run, name, own=None):
    """A word of both prompts; `own`: one word per target prompt."""
    layers, grid = word_layers(model.unet, SIZE)
    _, _, source, target = run
    rows = [token_weights([p], [w], [1.0], 77, 0.0) for p, w in zip(target.prompts, own or [name, name], strict=True)]
    return Word(layers, grid, torch.cat(rows), token_weights(source.prompts, [name], [1.0], 77, 0.0))


@cache
def references(model):
    x0 = torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    condition = model.condition(["a tree", "the cat"])
    return References.noised(x0, condition, model.schedule, model.schedule.timesteps(STEPS))


def of_another_image(model, run, name):
    """A word whose source is the second of two reference images."""
    layers, grid = word_layers(model.unet, SIZE)
    images = references(model)
    own, there = (token_weights(c.prompts, [name], [1.0], 77, 0.0) for c in (run[3], images.condition))
    return Word(layers, grid, own, there, images, row=1)


def state_of(run, i=0):
    guided, inversion, _, target = run
    t, t_prev = inversion.timesteps[i], guided.schedule.previous(inversion.timesteps)[i]
    abar, abar_prev = guided.schedule.abar(t), guided.schedule.abar(t_prev)
    noise = sigma(abar, abar_prev, 0.0)
    return StepState(i=i, steps=STEPS, t=t, t_prev=t_prev, abar=abar, abar_prev=abar_prev, sigma=noise,
                     network=guided, x_t=inversion.x[i] + 0.1, condition=target)  # fmt: skip


def presence(model, run, *names, **options):
    _, _, _, target = run
    layers, grid = word_layers(model.unet, SIZE)
    over = torch.zeros(2, 77)
    for row, prompt in zip(over, target.prompts, strict=True):
        row[1 : len(prompt.ids) - 1] = 1
    pairs = [list(zip(target.prompts, each, strict=True)) for each in names]
    words = tuple(torch.cat([token_weights([p], [w], [1.0], 77, 0.0) for p, w in each]) for each in pairs)
    return Presence(layers, grid, words, over, **options)


TERMS = {
    "centroid": lambda m, r: Centroid(word(m, r, "cat"), right=0.2, down=-0.1),
    "centroid at a point": lambda m, r: Centroid(word(m, r, "cat"), at=(0.3, 0.6)),
    "size": lambda m, r: Size(word(m, r, "cat"), factor=1.7),
    "size as a share": lambda m, r: Size(word(m, r, "cat"), share=0.3),
    "box": lambda m, r: Box(word(m, r, "cat"), edges=(0.1, 0.3, 0.45, 1.0)),
    "shape": lambda m, r: Shape(word(m, r, "cat"), Warp(right=0.25, width=1.5)),
    "appearance": lambda m, r: Appearance(word(m, r, "cat"), "up_blocks.1"),
    "place of another word": lambda m, r: Centroid(word(m, r, "cat"), 0.1, place=word(m, r, "red")),
    "shape at the place of another word": lambda m, r: Shape(word(m, r, "cat"), place=word(m, r, "red")),
    "shape of another image": lambda m, r: Shape(of_another_image(m, r, "cat")),
    "appearance of another image": lambda m, r: Appearance(of_another_image(m, r, "cat"), "up_blocks.1"),
    "presence": lambda m, r: presence(m, r, ("green", "tree"), ("cat", "cat")),
    "presence of all": lambda m, r: presence(m, r, ("green", "tree"), ("cat", "cat"), worst=False),
    "apart": lambda m, r: ObjectOverlap((word(m, r, "cat"), word(m, r, "cat", own=["green", "tree"]))),
    "bound": lambda m, r: AttributeBinding(word(m, r, "cat", own=["green", "tree"]), word(m, r, "cat")),
}


@pytest.mark.parametrize("name", TERMS)
def test_gradients_equal_finite_differences(model, run, name):
    guided, *_ = run
    state, shift = state_of(run), NoiseGuidance(((TERMS[name](model, run), 2.5),), 1.0, schedule=window(0, 1))

    def g(x):
        energy = shift.energy(state)
        return energy.value(x, guided.network.predict(x, state.t, state.condition, energy.taps))

    x = state.x_t.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(g(x).sum(), x)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        d = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            slope = (g(state.x_t + 1e-6 * d) - g(state.x_t - 1e-6 * d)) / 2e-6
        found = (gradient * d).sum(dim=(1, 2, 3))
        torch.testing.assert_close(found, slope, rtol=1e-3, atol=1e-7)
        assert found.abs().min() > 1e-6


def test_noise_guidance_adds_the_scaled_gradient(model, run):
    """eps + v sqrt(1 - abar_t) grad g, eps + v grad g, and the gradient normalised to unit RMS."""
    guided, inversion, _, target = run
    term = TERMS["centroid"](model, run)
    plain = next(iter(replay(guided, inversion, target)))
    moves = {}
    for kind in ("plain", "sigma", "unit"):
        shift = NoiseGuidance(((term, 1.0),), 3.0, window(0, 1), kind)
        end = next(iter(replay(guided, inversion, target, shifts=[shift])))
        moves[kind] = end.eps - plain.eps
        assert torch.equal(end.x_t, plain.x_t)
    assert (moves["plain"] != 0).any()
    torch.testing.assert_close(moves["sigma"], moves["plain"] * (1 - plain.abar) ** 0.5)
    torch.testing.assert_close(moves["unit"].square().mean(dim=(1, 2, 3)), torch.full((2,), 9.0, dtype=torch.float64))
    rms = moves["plain"].square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(moves["unit"] / 3, moves["plain"] / rms)


class NotSmooth(WordTerm):
    """A term whose gradient is not finite at the map itself."""

    def distance(self, own, reference, place):
        return (own - own.detach()).abs().sqrt().sum(dim=(1, 2, 3))


def test_non_finite_gradient_is_refused_with_the_name_of_the_term(model, run):
    guided, inversion, _, target = run
    terms = (Centroid(word(model, run, "cat"), right=0.2), NotSmooth(replace(word(model, run, "cat"), name="cat")))
    shift = NoiseGuidance(tuple((term, 1.0) for term in terms), 1.0, window(0, 1), name="self-guidance")
    with pytest.raises(NonFinite, match=r'Step 1 of 4 .*the gradient of self-guidance \(not smooth of "cat"\)'):
        next(iter(replay(guided, inversion, target, shifts=[shift])))


def test_gradient_whose_rms_overflows_is_refused(model, run):
    """It would become 0 by the division; float32, as finite numbers of float64 are large enough for any weight."""
    state = replace(state_of(run), x_t=state_of(run).x_t.float())
    shift = NoiseGuidance((), 1.0, window(0, 1), "unit", "self-guidance")
    state = replace(state, gradients={id(shift): torch.full_like(state.x_t, 1e25)})
    with pytest.raises(NonFinite, match="the RMS of the gradient of self-guidance"):
        shift.move(state, state.x_t)


def test_latent_guidance_lowers_the_energy(model, run):
    guided, inversion, _, target = run
    term = presence(model, run, ("green", "tree"), ("cat", "cat"))
    state = state_of(run)

    def value(x):
        measured = term.measure(state)
        eps = guided.network.predict(x, state.t, target, measured.taps)
        return measured.value(x, eps)

    shift = LatentGuidance(((term, 1.0),), 0.02, window(0, 1))
    moved = next(iter(replay(guided, inversion, target, shifts=[shift]))).x_t
    with torch.no_grad():
        assert bool((value(moved) < value(inversion.x[0])).all())


def test_all_terms_share_one_gradient_pass(model, run):
    _, inversion, source, target = run
    plain = classifier_free(model, model.condition(["", ""]), (1.0, 1.0))
    few, many = (
        NoiseGuidance(tuple((TERMS[name](model, run), 1.0) for name in names), 1.0, schedule=window(0, 1))
        for names in (["centroid"], list(TERMS))
    )
    counts = []
    for shift in (few, many):
        with model.counting() as count:
            list(replay(with_source(plain, inversion, source), inversion, target, shifts=[shift]))
        counts.append((count.calls, count.samples))
    assert counts[0][1] == STEPS * (2 + 2)  # the source and the target; the prediction is that of the gradient pass
    # the terms of two reference images read them in one more call, for all steps
    assert counts[1] == (counts[0][0] + 1, counts[0][1] + STEPS * 2)


def test_thirds_and_window_schedules():
    guided = [i for i in range(64) if thirds(i, 64)]
    assert guided[:12] == list(range(12))
    assert guided[12:] == list(range(13, 62, 2))
    for steps in range(2, 200):
        guided = [i for i in range(steps) if thirds(i, steps)]
        first = -(-3 * steps // 16)
        assert guided[:first] == list(range(first))
        assert guided[first:] == [i for i in range(first + 1, steps, 2) if i < steps - max(1, steps / 32)], steps
    assert [i for i in range(10) if window(0.2, 0.5)(i, 10)] == [2, 3, 4]
    assert [i for i in range(100) if window(0.07, 0.55)(i, 100)] == list(range(7, 55))
    assert [i for i in range(10) if window(0.15, 0.31)(i, 10)] == [2, 3]


def smooth(d):
    return torch.where(d.abs() < 1e-3, d.square() / 2e-3, d.abs() - 5e-4)


def test_terms_equal_their_definitions(model, run):
    """From maps that are computed outside of the terms."""
    guided, _, _, target = run
    state, cat = state_of(run), word(model, run, "cat")
    reading = cat.read()
    guided.network.predict(state.x_t, state.t, target, [reading.tap])
    pairs = list(reading.pairs())
    assert len(pairs) == len(reading.own.maps) > 0

    def value(term):
        measured = term.measure(state)
        with torch.no_grad():
            return measured.value(state.x_t, guided.network.predict(state.x_t, state.t, target, measured.taps))

    moved = [smooth(centroid(a) - centroid(b) - a.new_tensor([0.2, -0.1])).mean(dim=1) for a, b in pairs]
    torch.testing.assert_close(value(Centroid(cat, 0.2, -0.1)), torch.stack(moved).mean(dim=0))
    larger = [smooth(size(a) - 1.7 * size(b)) for a, b in pairs]
    torch.testing.assert_close(value(Size(cat, 1.7)), torch.stack(larger).mean(dim=0))
    kept = [smooth(soft_mask(a) - hard_mask(b)).mean(dim=(1, 2, 3)) for a, b in pairs]
    torch.testing.assert_close(value(Shape(cat)), torch.stack(kept).mean(dim=0))
    h, w = pairs[0][0].shape[-2:]
    left = torch.zeros(h, w, dtype=torch.float64)
    left[h // 2 :, : w // 4] = 1
    boxed = [smooth(soft_mask(a) - left).mean(dim=(1, 2, 3)) for a, _ in pairs]
    torch.testing.assert_close(value(Box(cat, edges=(0.0, 0.5, 0.25, 1.0))), torch.stack(boxed).mean(dim=0))


def test_mask_of_a_box_is_the_covered_share_of_every_cell():
    """Against the share of points of a fine grid that lie in the box."""
    edges = left, top, right, bottom = 0.15, 0.3, 0.575, 1.0
    x, y = ((torch.arange(n * 100, dtype=torch.float64) + 0.5) / (n * 100) for n in (8, 5))
    inside = ((top < y) & (y < bottom)).double()[:, None] * ((left < x) & (x < right)).double()
    wanted = inside.unflatten(1, (8, 100)).unflatten(0, (5, 100)).mean(dim=(1, 3))
    found = box_mask(torch.zeros(1, 1, 5, 8, dtype=torch.float64), edges)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.011)
    assert found.sum().item() == pytest.approx((right - left) * 8 * (bottom - top) * 5)


def test_place_of_another_word_sets_the_target(model, run):
    """Target: the centroid of the other word in the source; the mask is moved there."""
    guided, _, _, target = run
    state, cat, red = state_of(run), word(model, run, "cat"), word(model, run, "red")
    readings = [each.read() for each in (cat, red)]
    guided.network.predict(state.x_t, state.t, target, [each.tap for each in readings])
    layers = list(zip(*(each.pairs() for each in readings), strict=True))

    def value(term):
        measured = term.measure(state)
        with torch.no_grad():
            return measured.value(state.x_t, guided.network.predict(state.x_t, state.t, target, measured.taps))

    centres = [smooth(centroid(own) - centroid(there)).mean(dim=1) for (own, _), (_, there) in layers]
    torch.testing.assert_close(value(Centroid(cat, place=red)), torch.stack(centres).mean(dim=0) * cat.present)
    shapes = []
    for (own, reference), (_, there) in layers:
        d = centroid(there) - centroid(reference)
        moved = [warped(hard_mask(reference), Warp(*d[row].tolist()), centroid(reference))[row] for row in range(2)]
        shapes.append(smooth(soft_mask(own) - torch.stack(moved)).mean(dim=(1, 2, 3)))
    torch.testing.assert_close(value(Shape(cat, place=red)), torch.stack(shapes).mean(dim=0) * cat.present)


def test_reference_image_has_the_noise_level_of_the_step(model, run):
    """Its maps equal those of an evaluation of x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e, by itself."""
    guided, _, _, target = run
    state, cat = state_of(run, 2), of_another_image(model, run, "cat")
    reading = cat.read()
    guided.network.predict(state.x_t, state.t, target, [reading.tap])
    x0 = torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)[1:]
    e = gaussian((4, *SIZE), 0, 1, state.t, tag="reference").double()
    alone = WordMaps(cat.layers, cat.source[1:], cat.grid)
    model.predict(state.abar**0.5 * x0 + (1 - state.abar) ** 0.5 * e, state.t, model.condition(["the cat"]), [alone])
    for name, (own, there) in zip(reading.own.maps, reading.pairs(), strict=True):
        assert there.shape == own.shape == (2, 1, *cat.grid)
        torch.testing.assert_close(there[:1], alone.maps[name], rtol=1e-4, atol=1e-7)


def test_mean_features_and_overlap():
    features, A = torch.randn(1, 3, 8, 8, dtype=torch.float64), torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    A[..., 1:3, 0:2] = 1
    mask = hard_mask(torch.nn.functional.interpolate(A, (8, 8), mode="bilinear"))[0, 0] == 1
    torch.testing.assert_close(mean_features(features, A)[0], features[0][:, mask].mean(dim=1), rtol=1e-4, atol=1e-6)
    left, right = torch.zeros(2, 1, 1, 4, 4, dtype=torch.float64)
    left[..., :2], right[..., 2:] = 1, 1
    assert overlap(left, right).item() == 0
    assert overlap(left, 5 * left + 1).item() == pytest.approx(1, abs=1e-3)
    assert overlap(left, left + right + torch.eye(4)).item() < 1


def test_mean_features_do_not_overflow_in_float16():
    """4096 cells of 18 are more than the largest number of float16."""
    features, A = torch.full((1, 2, 64, 64), 18.0).half(), torch.ones(1, 1, 16, 16)
    A[..., 0] = 0
    torch.testing.assert_close(mean_features(features, A), torch.full((1, 2), 18.0), rtol=1e-4, atol=0)


def test_presence_loss_equals_attend_and_excite_of_diffusers():
    """Softmax over all tokens but the first and the last, padding included, and the authors' filter."""
    A = torch.rand(2, 3, 256, 77, generator=torch.Generator().manual_seed(0)) / 20
    A[:, :, 100, [2, 5]] += 0.05
    over, words = torch.ones(2, 77), torch.zeros(2, 2, 77)
    over[:, [0, -1]] = 0
    words[0, :, 2] = words[1, :, 5] = 1
    measured = Presence(Layers("a"), (16, 16), tuple(words), over, True, PUBLISHED_DEVIATION).measure(None)
    measured.taps[0]("a", True, A, Rows((TARGET,), 2))
    pipe = StableDiffusionAttendAndExcitePipeline
    for found, maps in zip(measured.value(None, None), A, strict=True):
        highest = pipe._compute_max_attention_per_index(maps.mean(dim=0).unflatten(0, (16, 16)), [2, 5])
        torch.testing.assert_close(found, pipe._compute_loss(highest))


def test_smoothing_is_a_normalised_gaussian():
    A = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    A[..., 2, 2] = 1
    found = smoothed(A)[0, 0]
    assert found.sum() == pytest.approx(1)
    assert (found[2, 3] / found[2, 2]).item() == pytest.approx(torch.exp(torch.tensor(-2.0)).item())
    assert (found[3, 3] / found[2, 2]).item() == pytest.approx(torch.exp(torch.tensor(-4.0)).item())
    torch.testing.assert_close(smoothed(torch.ones(1, 1, 3, 3)), torch.ones(1, 1, 3, 3))
