"""Plans: files are read and prompts encoded once, options are checked before any evaluation, plans are pickled."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.api import loaded
from sfumato.api.finding import search_directions
from sfumato.api.plan import PickledPlan
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.geometry import Directions
from sfumato.images import read
from sfumato.models import conditioning

PROMPTS = ("red cat", "blue cat")
RUN = {"steps": 4, "skip": 1}


@pytest.fixture(scope="module")
def model(tiny_sd_folder):
    return sfumato.load(tiny_sd_folder, "cpu")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "cat.png"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def mask(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.tile(np.arange(64) < 32, (64, 1)).astype(np.uint8) * 255).save(path)
    return path


@pytest.fixture
def counted(monkeypatch):
    """Counts of opened files and encoded prompts."""
    counts = Counter()
    encode, open_image = conditioning.encode, Image.open

    def count_prompts(text_encoders, prompts, **options):
        counts.update(prompts)
        return encode(text_encoders, prompts, **options)

    def count_open(file, *arguments, **options):
        counts["files"] += 1
        return open_image(file, *arguments, **options)

    monkeypatch.setattr(conditioning, "encode", count_prompts)
    monkeypatch.setattr(read.Image, "open", count_open)
    return counts


def test_files_are_read_and_prompts_encoded_once(model, image, mask, counted):
    model._conditions.clear()
    plan = model.plan(image, *PROMPTS, methods=["prompt-to-prompt", "pullback"], mask=mask, **RUN)
    plan.run().result  # noqa: B018
    assert counted == {"files": 2, "red cat": 1, "blue cat": 1, "": 1}


def test_directions_file_is_loaded_once(model, image, tmp_path, monkeypatch):
    path = tmp_path / "directions.safetensors"
    search_directions(model, ["cat"], n=1, samples=2, steps=4, size=64).save(path)
    loads, load = [], Directions.load
    monkeypatch.setattr(Directions, "load", staticmethod(lambda file: loads.append(file) or load(file)))
    model.plan(image, *PROMPTS, methods="pullback", directions=str(path), steps=4, resolution="full").run().result  # noqa: B018
    assert loads == [str(path)]


def test_plan_equals_invert_and_edit(model, image):
    plan = model.plan(image, *PROMPTS, methods="prompt-to-prompt", cross_steps=0.5, **RUN)
    inverted = model.invert(image, "red cat", method="prompt-to-prompt", steps=4)
    edited = inverted.edit("blue cat", cross_steps=0.5, skip=1)
    result = plan.run().result
    assert np.array_equal(result.pixels[0], edited.pixels[0])
    again = plan.apply(plan.invert().result).result
    assert np.array_equal(again.pixels[0], edited.pixels[0])
    assert result.recipes == edited.recipes
    both = inverted.report["network_evaluations"]["samples"] + edited.report["network_evaluations"]["samples"]
    assert result.report["network_evaluations"]["samples"] == both


def test_second_run_of_a_plan_computes_everything_again(model, image):
    """The measured errors and the maps of a region belong to one inversion."""
    plan, costs = model.plan(image, *PROMPTS, check=True, mask_words="cat", **RUN), []
    for _ in range(2):
        calls = model.network.count.calls
        plan.run().result  # noqa: B018
        costs.append(model.network.count.calls - calls)
    assert costs[0] == costs[1]
    first, second = plan.invert().result, plan.invert().result
    first.reconstruct()
    first.edit("blue cat", mask_words="cat")
    assert first.errors
    assert not second.errors
    assert first.groups[0].maps
    assert not second.groups[0].maps


def test_planning_makes_no_network_evaluation(model, image):
    calls = model.network.count.calls
    model.plan(
        image,
        *PROMPTS,
        methods=["prompt-to-prompt", ("pix2pix-zero", {"cross_attention_guidance_amount": 0.5})],
        **RUN,
    )
    with pytest.raises(BadInput, match="prompt-to-prompt and plug-and-play both replace"):
        model.plan(image, *PROMPTS, methods=["prompt-to-prompt", "plug-and-play"], **RUN)
    assert model.network.count.calls == calls


def test_pickled_plan_runs_on_another_model_instance(model, image, mask, tiny_sd_folder):
    plan = model.plan(image, *PROMPTS, methods=[("prompt-to-prompt", {"self_steps": 0.5})], mask=mask, seed=3, **RUN)
    pickled = pickle.dumps(plan)
    for file in (image, mask):
        file.unlink()
    back = pickle.loads(pickled)
    assert isinstance(back, PickledPlan)
    result = back.on(sfumato.load(tiny_sd_folder, "cpu")).run().result
    assert np.array_equal(result.pixels[0], plan.run().result.pixels[0])


def test_pickled_plan_of_another_version_or_model_is_refused(model, image, monkeypatch, tiny_folder):
    pickled = pickle.dumps(model.plan(image, *PROMPTS, **RUN))
    other = sfumato.load(tiny_folder("sd2"), "cpu")
    with pytest.raises(BadInput, match="made for another model"):
        pickle.loads(pickled).on(other)
    monkeypatch.setattr("sfumato.api.plan.__version__", "99.0")
    with pytest.raises(BadInput, match=r"pickled by sfumato .* and this is 99\.0: make the plan again"):
        pickle.loads(pickled)


def test_prompt_cache_is_bounded_and_invalidated_by_changes(tiny_sd_folder):
    model = sfumato.load(tiny_sd_folder, "cpu")
    before = model.condition(["red cat"], (64, 64)).tokens
    assert model.condition(["red cat"], (64, 64)).tokens is before
    with torch.no_grad():
        next(model.network.text_encoders[0].encoder.parameters()).mul_(2)
    assert not torch.equal(model.condition(["red cat"], (64, 64)).tokens, before)
    model.network.read_prompts(chunks=2)
    assert model.condition(["red cat"], (64, 64)).tokens.shape[1] == 2 * before.shape[1]
    for n in range(loaded.KEPT + 3):
        model.condition([f"cat {n}"], (64, 64))
    assert len(model._conditions) == loaded.KEPT


class Brighter(Shift):
    def prediction(self, state, prediction):
        return prediction + 0.1


def test_generate_accepts_shifts(model):
    plain = model.generate("red cat", steps=2, size=64).pixels[0]
    moved = model.generate("red cat", steps=2, size=64, shifts=[Brighter()])
    assert not np.array_equal(moved.pixels[0], plain)
    assert moved.recipes[0]["methods"] == [{"shift": "Brighter"}]
    with pytest.raises(BadInput, match=r"shifts must be objects of sfumato\.core\.shift\.Shift, not 'brighter'"):
        model.generate("red cat", steps=2, size=64, shifts=["brighter"])


def test_planned_generation_equals_generate(model):
    """Planning makes no network evaluation; a plan can be run twice."""
    options = {"steps": 2, "size": 64, "seed": 3, "methods": [("objects", {"objects": "cat"})]}
    wanted = model.generate("red cat", **options)
    calls = model.network.count.calls
    plan = model.plan_generation("red cat", **options)
    assert model.network.count.calls == calls
    for _ in range(2):
        found = plan.run().result
        assert np.array_equal(found.pixels[0], wanted.pixels[0])
        assert found.recipes == wanted.recipes
    with pytest.raises(BadInput, match="prompt-to-prompt edits images"):
        model.plan_generation("red cat", methods="prompt-to-prompt")


def test_pickled_generation_runs_on_another_model_instance(model, tiny_sd_folder, tiny_folder):
    plan = model.plan_generation(["red cat", "dog"], steps=2, size=64, seed=[3, 4], shifts=[Brighter()])
    back = pickle.loads(pickle.dumps(plan))
    result = back.on(sfumato.load(tiny_sd_folder, "cpu")).run().result
    assert np.array_equal(result.pixels, plan.run().result.pixels)
    with pytest.raises(BadInput, match="made for another model"):
        back.on(sfumato.load(tiny_folder("sd2"), "cpu"))
