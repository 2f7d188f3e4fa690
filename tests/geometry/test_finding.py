"""Finding the directions of a model from sampled latents; options are checked before any evaluation."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

import sfumato
from sfumato.api.finding import compute_text_direction, sample_latents, search_directions
from sfumato.api.group import guided
from sfumato.editing.generate import GenerateParams, generate
from sfumato.errors import BadInput
from tests.tiny import tiny_image, tiny_sd

PROMPTS = ["red cat", "blue dog", "star"]
SHAPE = (4, 8, 8)


@pytest.fixture(scope="module")
def model(tiny_sd_folder):
    return sfumato.load(str(tiny_sd_folder), "cpu")


@pytest.mark.parametrize("step", [0, 1, 3])
def test_samples_equal_latents_of_generated_images(model, step):
    network, params = model.network, GenerateParams(steps=4, guidance_scale=3.0)
    with network.counting() as count:
        found = torch.cat(list(sample_latents(network, PROMPTS, SHAPE, params, step, seed=5)))
    assert count.samples == 3 * 2 * step  # x_T needs no evaluation; a guidance pair is two rows
    states = generate(guided(network, [3.0] * 3, (32, 32)), SHAPE, network.condition(PROMPTS), params, seeds=[5, 6, 7])
    torch.testing.assert_close(found, next(islice(states, step, None)).x_t, rtol=1e-4, atol=1e-4)


def test_guidance_scale_acts_only_after_the_first_step(model):
    settings = {"n": 2, "samples": 2, "steps": 4}
    early = [
        search_directions(model, ["red cat"], **settings, guidance_scale=guidance_scale).u
        for guidance_scale in (1.0, 9.0)
    ]
    late = [
        search_directions(model, ["red cat"], **settings, time=0.5, guidance_scale=guidance_scale).u
        for guidance_scale in (1.0, 9.0)
    ]
    assert torch.equal(*early)
    assert not torch.allclose(*late)


def test_more_prompts_than_samples_are_refused(model):
    with pytest.raises(BadInput, match="3 prompts need at least as many samples, not 2"):
        search_directions(model, PROMPTS, n=2, samples=2, steps=4)
    assert search_directions(model, PROMPTS, n=2, samples=3, steps=4).prompts == tuple(PROMPTS)


def test_callback_receives_the_progress(model):
    told = []
    search_directions(model, n=2, samples=3, steps=4, callback=lambda *each: told.append(each))
    assert told[0] == ("latent", 3, 3)
    assert told[-1] == ("basis", 3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 2, "names": ["a"]}, "Give 2 names, one for each direction, not 1"),
        ({"n": 3, "names": ["a", "a", "b"]}, "same name"),
        ({"n": 5, "kind": "pca"}, "5 samples have at most 4 principal components"),
        ({"kind": "wild"}, "kind must be one of pullback, pca"),
        ({"n": 17}, "n must be between 1 and 16"),
        ({"samples": 1}, "samples must be an integer of at least 2"),
        ({"time": 0}, "time must be above 0"),
        ({"guidance_scale": -1.0}, "guidance_scale must be"),
        ({"chunk": 0}, "chunk must be"),
    ],
)
def test_bad_options_are_refused_before_any_evaluation(model, options, message):
    calls = model.network.count.calls
    with pytest.raises(BadInput, match=message):
        search_directions(model, ["red cat"], **{"n": 3, "samples": 5, "time": 0.5, "steps": 4, **options})
    assert model.network.count.calls == calls


def test_a_single_prompt_may_be_a_string(model):
    options = {"n": 2, "samples": 2, "steps": 4, "time": 0.5}
    found, same = (search_directions(model, prompts, **options) for prompts in ("red cat", ["red cat"]))
    assert found.prompts == same.prompts == ("red cat",)
    assert torch.equal(found.u, same.u)


@pytest.mark.parametrize("words", [None, 3, ["cat", 3], {"cat": "dog"}])
def test_a_text_direction_between_other_values_is_refused(model, words):
    with pytest.raises(BadInput, match="must be a word or a list of sentences"):
        compute_text_direction(model, words, "dog")


def test_a_network_without_a_middle_block_is_refused_before_any_evaluation(tmp_path):
    model = sfumato.load(str(tiny_sd(tmp_path / "sd", mid_block_type=None)), "cpu")
    image = tiny_image(32, 32)
    with model.network.counting() as count:
        for call in (
            lambda: search_directions(model, n=2, samples=2, steps=4),
            lambda: model.interpolate(image, image, kind="geodesic", steps=2),
            lambda: model.interpolate(image, image, measure=True, steps=2),
            lambda: model.plan(image, methods="pullback", steps=2),
        ):
            with pytest.raises(BadInput, match="no middle block"):
                call()
    assert not count.calls
    assert len(model.interpolate(image, image, frames=2, steps=2)) == 2


def test_a_file_of_another_bottleneck_is_refused(model, tmp_path):
    found = search_directions(model, n=2, samples=2, steps=4)
    found.check_fits(model.network, found.t, found.latent)
    with pytest.raises(BadInput, match="in a bottleneck of 15 dimensions, not 16"):
        replace(found, u=found.u[:, :15]).check_fits(model.network, found.t, found.latent)
