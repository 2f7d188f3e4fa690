"""The method pullback: one latent of a run is moved, also with a prompt, a mask and saved directions."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.core.guidance import classifier_free
from sfumato.core.loop import reverse
from sfumato.core.noise import gaussian_batch
from sfumato.core.step import predict_x0
from sfumato.errors import BadInput
from sfumato.geometry import BottleneckMap, Directions, find_directions, local_basis, normalised, recorded_moves
from sfumato.geometry.normalise import KAPPA, gain, like
from sfumato.options.pullback import PullbackParams, edited_step
from sfumato.shifts.boost import QualityBoost
from tests.tiny import tiny_image

STEPS = 6


@pytest.fixture(scope="module")
def model(tiny_sd_folder):
    return sfumato.load(str(tiny_sd_folder), "cpu")


@pytest.fixture(scope="module")
def inverted(model):
    return model.invert([tiny_image(32, 32), tiny_image(32, 32, seed=1)], "red cat", method="pullback", steps=STEPS)


@pytest.fixture(scope="module")
def inversion(inverted):
    return inverted.groups[0].inversion


@pytest.fixture(scope="module")
def saved(model, inversion, tmp_path_factory):
    """A file of directions at the timestep of the first step."""
    path = tmp_path_factory.mktemp("directions") / "found.safetensors"
    f = BottleneckMap(model.network, inversion.timesteps[0], model.network.condition(["red cat"]))
    find_directions(f, inversion.x[0], 4, steps=STEPS, names=["a", "b", "c", "d"]).save(path)
    return path


def first_state(inverted, prompt="red cat", **options):
    return next(inverted.edit_steps(prompt, **options)).state


def test_latent_is_moved_by_gamma_along_the_direction(model, inverted, inversion):
    x, t = inversion.x[0], inversion.timesteps[0]
    f = BottleneckMap(model.network, t, model.network.condition(["red cat"] * 2))
    basis = local_basis(f, x, 3)
    for sign in (1, -1):
        with recorded_moves() as moves:
            state = first_state(inverted, direction="3", gamma=sign * 0.5, normalise=False)
        torch.testing.assert_close(state.x_t, x + sign * 0.5 * basis.v[:, 2], rtol=0, atol=1e-5)
        assert len(moves) == len(moves[0].shots) == 1
        torch.testing.assert_close(moves[0].distance, torch.full((2,), 0.5).double(), rtol=1e-5, atol=0)
        torch.testing.assert_close(moves[0].shots[0].expected, 0.5 * basis.values[:, 2], rtol=1e-4, atol=0)
    network = classifier_free(model.network, None, (1.0, 1.0))

    def predict(each):
        return network.predict(each, t, f.condition)

    with torch.no_grad():
        wanted = normalised(predict, x, x + 0.5 * basis.v[:, 2], model.network.schedule.abar(t), 0.5)
    found = first_state(inverted, direction="3", gamma=0.5, kappa=0.5).x_t
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_normalisation_uses_the_predictions_of_the_run(model, inverted, inversion):
    """Those with the taps of other methods. The source is evaluated once for all predictions of a step."""
    x = inversion.x[0]
    p2p = ("prompt-to-prompt", {"cross_steps": 1.0, "self_steps": 1.0})
    options = {"guidance_scale": 1.0, "skip": 0}

    def first(gamma, normalise):
        pullback = ("pullback", {"gamma": gamma, "normalise": normalise, "kappa": 0.5 if normalise else KAPPA})
        with model.network.counting() as count:
            state = first_state(inverted, "blue dog", methods=[p2p, pullback], **options)
        return state, count.samples

    (moved, samples), (far, fewer), (still, _) = first(0.5, True), first(0.5, False), first(0.0, False)
    found = {id(each): predict_x0(each.x_t, each.eps, each.abar) for each in (far, still)}
    gained = gain(moved.abar, 0.5) * (like(found[id(far)], found[id(still)]) - found[id(still)])
    torch.testing.assert_close(moved.x_t.double(), x.double() + gained, rtol=0, atol=1e-4)
    assert torch.equal(still.x_t, x)
    assert samples == fewer + 2 * len(x)


def test_latents_before_the_edited_step_are_unchanged(inverted, inversion):
    """Up to its step, an edit at time 0.5 equals the reconstruction."""
    edit = [each.state.x_t for each in inverted.edit_steps("red cat", time=0.5, gamma=1.0)]
    plain = [each.state.x_t for each in inverted.edit_steps("red cat", gamma=0.0)]
    same = [torch.equal(a, b) for a, b in zip(edit, plain, strict=True)]
    assert same == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("time", "skip", "index"), [(1.0, 0, 0), (0.5, 0, 3), (0.0, 0, 5), (1.0, 2, 2), (0.25, 2, 4), (0.9, 5, 5)]
)
def test_edited_step_for_time_and_skip(time, skip, index):
    assert edited_step(PullbackParams(steps=6, time=time, skip=skip)) == index


@pytest.mark.parametrize(("time", "skip", "noted"), [(1.0, 0, False), (0.25, 2, False), (1.0, 2, True), (0.9, 5, True)])
def test_a_time_at_which_the_step_is_skipped_is_reported(time, skip, noted):
    notes = PullbackParams(steps=6, time=time, skip=skip).notes([])
    expected = (
        f"x_t was changed at step {skip + 1} of 6, not at time {time:g}, because the steps before it are skipped."
    )
    assert notes == ([expected] if noted else [])


def test_a_number_of_thousands_of_digits_is_refused(inverted):
    with pytest.raises(BadInput, match="direction must be a number between 1 and the rank"):
        inverted.edit_steps(direction="1" * 5000)


def test_empty_target_prompt_uses_the_source_prompt(inverted):
    with_it, without = (first_state(inverted, prompt, gamma=0.5) for prompt in ("red cat", ""))
    assert torch.equal(with_it.x_t, without.x_t)


def test_shooting_steps_are_recorded_and_increase_the_distance(inverted, inversion):
    with recorded_moves() as moves:
        far = first_state(inverted, shots=3, gamma=0.2, normalise=False)
    shots = moves[0].shots
    assert len(shots) == 3
    assert all(torch.isfinite(shot.length).all() and torch.isfinite(shot.angle).all() for shot in shots)
    assert torch.equal(shots[-1].x, far.x_t)
    distance = (far.x_t - inversion.x[0]).flatten(1).norm(dim=1)
    assert bool((distance <= 0.6 + 1e-5).all())
    assert bool((distance > 0.3).all())


def test_repeated_step_is_moved_once(inverted):
    """Resampling adds noise after the move; the latent is not moved again."""
    found = []
    for resample in (1, 3):
        diffuseit = {"resample": resample, "loss_scale": 0.0}
        with recorded_moves() as moves:
            run = inverted.edit_steps(
                "blue dog", methods=[("diffuseit", diffuseit), ("pullback", {"gamma": 0.5})], skip=4
            )
            visits = [each.state.visit for each in run]
        assert max(visits) == resample - 1
        assert len(moves) == 1
        found.append(moves[0])
    torch.testing.assert_close(found[0].distance, found[1].distance)
    torch.testing.assert_close(found[0].shots[0].x, found[1].shots[0].x)


def test_report_and_recipes_contain_the_moves(inverted):
    """With batches of one image, the report is in the order of the images and equals the recorded moves."""
    small = dataclasses.replace(inverted, batch=1)
    with recorded_moves() as moves:
        result = small.edit("red cat", gamma=0.5, shots=2)
    assert len(moves) == 2
    assert len(result.report["moves"]) == 2
    for row, (move, told) in enumerate(zip(moves, result.report["moves"], strict=True)):
        assert told["distance"] == pytest.approx(float(move.distance[0]), rel=1e-3)
        assert [step["length"] for step in told["steps"]] == pytest.approx(
            [float(shot.length[0]) for shot in move.shots], rel=1e-3
        )
        assert result.recipes[row]["moves"] == told


def test_saved_directions_and_their_mixtures(model, inverted, inversion, saved):
    x = inversion.x[0]
    state = first_state(inverted, directions=str(saved), direction="b=1,d=-1", gamma=0.01, normalise=False)
    f = BottleneckMap(model.network, inversion.timesteps[0], model.network.condition(["red cat"] * 2))
    moved = f(state.x_t) - f(x)
    wanted = Directions.load(saved).mix({"b": 1, "d": -1}).expand_as(moved)
    assert bool((torch.nn.functional.cosine_similarity(moved, wanted, dim=1) > 0.99).all())
    by_number = first_state(inverted, directions=str(saved), direction="2=1,4=-1", gamma=0.01, normalise=False)
    assert torch.equal(by_number.x_t, state.x_t)


def test_edit_with_target_prompt_mask_and_boost(inverted):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    edit = inverted.edit("green dog", guidance_scale=3.0, gamma=1.0, boost=0.5, mask=Image.fromarray(mask))
    for pixels, image in zip(edit.pixels, inverted.images, strict=True):
        differs = (pixels != image.rgb).any(axis=-1)
        assert not differs[mask == 0].any()
        assert differs[mask == 255].any()


@pytest.mark.parametrize(("boost", "below"), [(0.07, 70), (0.56, 560), (0.0004, 1)])
def test_boost_is_a_fraction_of_the_training_timesteps(model, boost, below):
    plan = model.plan(tiny_image(32, 32), "red cat", methods="pullback", steps=STEPS, boost=boost)
    (found,) = [shift for shift in plan.edit.batches[0].shifts if isinstance(shift, QualityBoost)]
    assert found.below == below


def test_random_directions_depend_on_their_number(model, inversion, inverted):
    a, b, c = (
        first_state(inverted, kind="random", direction=each, gamma=0.5, normalise=False).x_t for each in ("1", "1", "2")
    )
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)
    torch.testing.assert_close((a - inversion.x[0]).flatten(1).norm(dim=1), torch.full((2,), 0.5).double())


def test_random_directions_can_be_mixed(inverted, inversion):
    """Numbers of random directions are not limited by the bottleneck; unit vectors are mixed."""

    def moved(direction):
        state = first_state(inverted, kind="random", direction=direction, gamma=0.5, normalise=False)
        return (state.x_t - inversion.x[0]) / 0.5

    one, other = moved("1"), moved("40")
    wanted = 2 * one - other
    wanted = wanted / wanted.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(moved("1=2,40=-1"), wanted, rtol=0, atol=1e-5)


def test_options_set_by_a_directions_file_are_refused(inverted, saved):
    for options, message in (
        ({"kind": "random"}, "leave the file of directions out"),
        ({"keep_positions": True}, "summed"),
    ):
        with pytest.raises(BadInput, match=message):
            inverted.edit_steps("red cat", directions=str(saved), **options)


def test_full_boost_equals_the_stochastic_process(model):
    """With boost in all steps, a deterministic run equals eta = 1 with the same noise; without, it is unchanged."""
    network = classifier_free(model.network, None, (1.0,))
    condition, seeds = model.network.condition(["red cat"]), [4]
    x = gaussian_batch((4, 8, 8), seeds, dtype=torch.float64)
    timesteps = model.network.schedule.timesteps(5)

    def noise(state):
        return gaussian_batch((4, 8, 8), seeds, step=state.t, tag="boost")

    def last(eta, maps, *shifts):
        return list(reverse(network, x, timesteps, condition, eta=eta, noise_maps=maps, shifts=shifts))[-1].x_prev

    stochastic = last(1.0, noise)
    torch.testing.assert_close(last(0.0, lambda state: None, QualityBoost(1000, seeds)), stochastic)
    deterministic = last(0.0, lambda state: None)
    assert torch.equal(last(0.0, lambda state: None, QualityBoost(0, seeds)), deterministic)
    assert not torch.allclose(stochastic, deterministic)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "smile"}, 'must be a number between 1 and the rank, not "smile"'),
        ({"direction": "0"}, "must be a number"),
        ({"direction": "5", "rank": 4}, "must be a number"),
        ({"direction": "1="}, "direction must be a name or a number"),
        ({"direction": "1=1,01=-1"}, "direction names number 1 twice"),
        ({"direction": "1=1e300"}, 'weight of direction "1" must be between'),
        ({"kind": "random", "rank": 7}, "rank is the dimension of tangent spaces"),
        ({"normalise": False, "kappa": 0.5}, "kappa belongs to the normalisation, which is off"),
        ({"directions": "nowhere.safetensors"}, "There is no file nowhere.safetensors"),
        ({"gamma": 1e6}, "gamma must be between -1000 and 1000"),
        ({"time": 1.5}, "time must be between 0 and 1"),
        ({"kappa": 1.0}, "kappa must be"),
        ({"chunk": 0}, "chunk must be between 1 and 100000"),
        ({"shots": 0}, "shots must be"),
        ({"kind": "wild"}, "kind must be one of pullback, random"),
    ],
)
def test_bad_options_are_refused_by_edit_steps(inverted, options, message):
    calls = inverted.model.network.count.calls
    with pytest.raises(BadInput, match=message):
        inverted.edit_steps("red cat", **options)
    assert inverted.model.network.count.calls == calls


def test_bad_options_are_refused_before_the_first_step(model, inverted, saved, tmp_path):
    calls = inverted.model.network.count.calls
    for options, message in (
        ({"rank": 17}, "rank must be between 1 and 16"),
        ({"direction": "17"}, "direction must be between 1 and 16"),
        ({"direction": "17", "gamma": 0.0}, "direction must be between 1 and 16"),
        ({"directions": str(saved), "time": 0.5}, "found at timestep"),
    ):
        with pytest.raises(BadInput, match=message):
            next(inverted.edit_steps("red cat", **options))
    assert inverted.model.network.count.calls == calls


def test_a_rank_without_effect_is_reported(inverted, saved):
    """A single step along the image's own directions is the same for every rank."""
    one = inverted.edit(gamma=0.5, rank=4)
    assert np.array_equal(one.pixels[0], inverted.edit(gamma=0.5).pixels[0])
    assert any(note.startswith("rank had no effect") for note in one.report["notes"])
    for options in ({"rank": 4, "shots": 2}, {"rank": 4, "directions": str(saved)}, {}):
        assert PullbackParams(**options).notes([]) == []


def test_default_kappa_equals_that_of_the_geometry_module():
    assert PullbackParams.kappa == KAPPA
