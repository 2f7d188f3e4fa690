"""Properties that every method has on every model layout."""

import inspect
import math
from functools import cache, cached_property

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput, NonFinite
from sfumato.options.option import kind_of
from sfumato.options.params import options_of
from tests.contract.composed import acting
from tests.tiny import tiny_image

STEPS = 4
IMAGES = [tiny_image(32, 32), tiny_image(32, 32, seed=1), tiny_image(37, 21, seed=2)]

APPROXIMATE = ("ddim", "regularised")
"""Inversions that are approximate by default."""
FREE = "sdedit"
"""The inversion that makes no network evaluation: no steps, no error on NaN, and no reconstruction."""
STILL = {"colour": {"amount": 0.0}, "pullback": {"gamma": 0.0}}
"""Options with which methods that change an image even under its source prompt leave it unchanged."""
QUICK = {"diffuseit": {"resample": 2, "crops": 2}}
"""Options with few repeated steps, in which random weights would amplify rounding errors."""


def words(model, source="red cat", target="green dog"):
    """The prompts; empty ones for a model without text encoder."""
    return (source, target) if model.network.takes_text else ("", "")


def guidance_scale(model, value):
    """The option guidance_scale; no option for a model without text encoder."""
    return {"guidance_scale": value} if model.network.takes_text else {}


def invert(model, method, images=IMAGES[0], **options):
    options = QUICK.get(method.name, {}) | options
    options.setdefault("steps", STEPS)
    if "exact" in options_of(method.params):
        options.setdefault("exact", True)
    return model.invert(images, words(model)[0], method=method.name, **options)


def levels(result):
    return [pixels.astype(int) for pixels in result.pixels]


def state_of(model):
    """The state of a model that methods have to restore: weights, hooks, training modes, attention processors."""
    networks = model.network._networks().values()
    hooks = [
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for network in networks
        for module in network.modules()
    ]
    modes = [module.training for network in networks for module in network.modules()]
    processors = [type(p) for p in getattr(model.network.unet, "attn_processors", {}).values()]
    model.network._fingerprint.clear()
    return model.network.fingerprint(), hooks, modes, processors, len(model.network._evaluations.scopes)


def randomness():
    """The states of torch's and numpy's global generators."""
    return torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()


class Made:
    """Results of a method on a model that several tests use; each is computed once, on first use."""

    def __init__(self, model, method):
        self.model, self.method = model, method
        if model.network.takes_text:
            model.network.condition(["red cat"])  # transformers attaches hooks of its own in the first call
        self.before = state_of(model)

    @cached_property
    def together(self):
        return invert(self.model, self.method, IMAGES, seed=[5, 6, 7])

    @cached_property
    def alone(self):
        return invert(self.model, self.method, IMAGES[1], seed=6)

    def late(self, inverted):
        return inverted.edit(words(self.model)[1], skip=2, **guidance_scale(self.model, 3.0))

    @cached_property
    def edit(self):
        return self.late(self.alone)

    @cached_property
    def again(self):
        """The edit from a second inversion, and the states of the global generators before and after both."""
        torch.manual_seed(11)
        np.random.seed(11)
        before = randomness()
        edit = self.late(invert(self.model, self.method, IMAGES[1], seed=6))
        return edit, before, randomness()


@pytest.fixture(scope="module")
def all_made():
    return {}


@pytest.fixture
def made(all_made, model, method, layout):
    if (layout, method.name) not in all_made:
        all_made[layout, method.name] = Made(model, method)
    return all_made[layout, method.name]


@pytest.fixture(scope="module")
def refined():
    """The first image inverted by refined DDIM, by layout; shared by the methods that edit it."""
    return {}


def to_reconstruct(made, layout, refined):
    """An inversion with which the method reconstructs, its images and the number of steps to skip.

    In place of an approximate inversion, methods with the option `inversion` use an exact one. For the others, DDIM is
    refined and replayed over the last steps only, because random weights amplify its error.
    """
    if made.method.inversion not in APPROXIMATE:
        return made.together, IMAGES, 0
    if made.method.inversion == "regularised":
        return invert(made.model, made.method, IMAGES[0], exact=True), IMAGES[:1], 0
    if "inversion" in options_of(made.method.params):
        return invert(made.model, made.method, IMAGES[0], inversion="edit-friendly"), IMAGES[:1], 0
    if layout not in refined:
        refined[layout] = invert(made.model, METHODS.find("ddim"), IMAGES[0], steps=40, refine=6)
    return refined[layout], IMAGES[:1], 36


def test_null_edit_reconstructs(made, layout, refined):
    """The source prompt as target at the same guidance scale reproduces the image to one grey level."""
    model, name = made.model, made.method.name
    if made.method.inversion == FREE:
        pytest.skip("does not reconstruct")
    inverted, images, skip = to_reconstruct(made, layout, refined)
    run = {"skip": skip} | guidance_scale(model, inverted.params.source_guidance_scale)
    edit = inverted.edit(words(model)[0], methods=[(name, STILL.get(name, {}))], **run)
    for pixels, image in zip(levels(edit), images, strict=True):
        assert abs(pixels - np.asarray(image)).max() <= 1


def test_edit_changes_the_image_and_keeps_its_size(made):
    model = made.model
    edit = made.together.edit(words(model)[1], skip=0)
    for edited, source in zip(edit.images, IMAGES, strict=True):
        assert edited.size == source.size
        if model.network.takes_text:
            assert np.abs(np.asarray(edited).astype(int) - np.asarray(source)).mean() > 1


def test_edit_is_deterministic(made):
    edit, *_ = made.again
    assert np.array_equal(edit.pixels[0], made.edit.pixels[0])


def test_edit_does_not_depend_on_the_batch(made):
    """The first latent of exact inversions is identical; the pixels differ by rounding, which depends on the batch."""
    in_batch, by_itself = made.together.groups[0].inversion, made.alone.groups[0].inversion
    if made.method.inversion not in APPROXIMATE:
        assert torch.equal(in_batch.x[0, 1], by_itself.x[0, 0])
    assert abs(levels(made.late(made.together))[1] - levels(made.edit)[0]).max() <= 2


@pytest.fixture(scope="module")
def half_models(tiny_folder):
    """The model of a layout in bfloat16, loaded once."""
    return cache(lambda layout: sfumato.load(str(tiny_folder(layout)), dtype="bf16"))


@pytest.fixture(scope="module")
def half_options(half_models, tmp_path_factory):
    """Options with which a method acts on a layout in bfloat16."""

    @cache
    def options(name, layout):
        network, folder = half_models(layout).network, tmp_path_factory.mktemp(f"{name}-{layout}")
        return acting(name, network, folder, STEPS, cells=network.latent_shape(32, 32)[1:])

    return options


def test_half_precision_results_are_finite(model, method, half_models, half_options, layout):
    half = half_models(layout)
    assert half.network.dtype == torch.bfloat16
    inverted, target = invert(half, method), words(half, target="green cat")[1]
    options = half_options(method.name, layout)
    edit = inverted.edit(target, skip=1, check=True, **guidance_scale(half, 3.0), **options)
    assert edit.pixels[0].shape == (32, 32, 3)
    assert math.isfinite(edit.report["reconstruction_latent_max_error"])
    if method.inversion not in (*APPROXIMATE, FREE):
        assert edit.report["reconstruction_latent_max_error"] <= 1e-6


def test_model_unchanged_after_success_error_and_cancel(made):
    model, method, inverted, before = made.model, made.method, made.alone, made.before
    assert made.edit.pixels
    assert state_of(model) == before

    with pytest.raises(BadInput):
        inverted.edit(words(model)[1], skip=STEPS)
    assert state_of(model) == before

    run = inverted.edit_steps(words(model)[1], skip=1)
    next(run)
    run.close()
    with pytest.raises(RuntimeError, match="cancelled"):
        _ = run.result
    run = model.invert_steps(IMAGES[0], words(model)[0], method=method.name, steps=STEPS)
    next(run, None)
    del run
    assert state_of(model) == before


def test_global_random_state_is_unchanged(made):
    _, before, after = made.again
    assert before == after


def test_nan_error_names_the_step(made):
    model, method = made.model, made.method

    def break_late(module, inputs, output):
        late = inputs[1] if isinstance(inputs[1], int) else int(inputs[1].flatten()[-1])
        return (output[0] * torch.nan, *output[1:]) if late < 400 else output

    inverted = made.alone
    handle = model.network.unet.register_forward_hook(break_late)
    try:
        with pytest.raises(NonFinite, match=rf"Step \d of {STEPS} \(timestep \d+\): the predicted noise"):
            inverted.edit(words(model)[1], skip=0)
        if method.inversion != FREE:
            with pytest.raises(NonFinite, match=rf"Step \d of {STEPS} \(timestep \d+\): the predicted noise"):
                invert(model, method)
    finally:
        handle.remove()
    assert state_of(model) == made.before


def bad_values(each):
    """Invalid values of an option."""
    if kind_of(each) is str:
        yield 1
        yield from ("many",) if each.metadata["choices"] else ()
        return
    yield "many"
    if kind_of(each) is bool:
        yield 1
        return
    yield from (math.nan, math.inf, None, True)
    if kind_of(each) is int:
        yield 1.5
    low, high, above = (getattr(each.metadata["range"], key) for key in ("low", "high", "above"))
    yield from (value for value in (above, low - 1 if low is not None else None) if value is not None)
    if high is not None:
        yield high + 1


def test_bad_parameters_are_refused_before_any_evaluation(models, method):
    model = models("sd")
    inverted = invert(model, method)
    calls = model.network.count.calls
    named = inspect.signature(model.invert_steps).parameters
    for name, each in options_of(method.params).items():
        for value in bad_values(each):
            if value is None and name in named:
                continue  # the default of the named argument
            with pytest.raises(BadInput, match=name):
                model.invert_steps(IMAGES[0], "red cat", method=method.name, **{name: value})
            if each.metadata["stage"] == "edit" and value is not None:
                with pytest.raises(BadInput, match=name):
                    inverted.edit_steps("green dog", **{name: value})
    with pytest.raises(BadInput, match=r"it takes .*steps"):
        model.invert_steps(IMAGES[0], "red cat", method=method.name, stepps=3)
    with pytest.raises(BadInput, match=f"skip must be between 0 and {STEPS - 1}"):
        inverted.edit_steps("green dog", skip=STEPS)
    assert model.network.count.calls == calls


def test_parameters_have_help_stage_and_type(method):
    assert len(method.summary) > 10
    for each in options_of(method.params).values():
        assert each.metadata["help"]
        assert each.metadata["stage"] in ("invert", "edit")
        assert kind_of(each) in (bool, int, float, str), "the command line makes a flag of it"
    method.params().check()


def test_mask_keeps_pixels_outside_unchanged(model, method):
    image = IMAGES[2]
    mask = np.zeros((21, 37), np.uint8)
    mask[4:15, 9:30] = 255
    inverted = invert(model, method, image)
    edit = inverted.edit(words(model)[1], skip=0, mask=Image.fromarray(mask))
    differs = (edit.pixels[0] != np.asarray(image)).any(axis=-1)
    assert not differs[mask == 0].any()
    if model.network.takes_text:
        assert differs[mask == 255].any()
