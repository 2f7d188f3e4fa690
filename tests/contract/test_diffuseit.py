"""DiffuseIT: repeated steps, network evaluations, losses, texts, target image and refusals."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from sfumato.api.composition import Composition
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.images import read_image
from sfumato.images.colour_match import match_colours
from sfumato.images.tensors import to_tensor, to_uint8
from sfumato.metrics import VisionEncoder
from sfumato.options.diffuseit import DiffuseITParams
from sfumato.options.params import Params
from tests.contract.images import IMAGE
from tests.metrics import encoders
from tests.tiny import seeded, tiny_image

OPTIONS = {"method": "diffuseit", "steps": 4, "skip": 1, "crops": 1, "resample": 1, "guidance_scale": 2.0}


def edit(sd, source="red cat", target="blue dog", **options):
    given = OPTIONS | options
    name = given.pop("method")
    return sd.plan(IMAGE, source, target, methods=name, **given).run()


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("target") / "target.png"
    tiny_image(40, 40, seed=9).save(path)
    return str(path)


@pytest.mark.parametrize("resample", [1, 3])
def test_first_step_is_repeated_and_counted_in_progress(sd, resample):
    run = edit(sd, resample=resample)
    progress = [each for each in run if each.stage == "edit"]
    steps = 3 + resample - 1
    assert [each.done for each in progress] == list(range(1, steps + 1))
    assert {each.total for each in progress} == {steps}
    assert [each.state.i for each in progress] == [0] * resample + [1, 2]
    assert [each.state.visit for each in progress] == [*range(resample), 0, 0]
    assert run.result.report["network_evaluations"]["samples"] == 2 * steps, "two rows for every step, with gradients"


def test_without_network_gradient_each_step_is_one_call(sd):
    assert edit(sd, through_network=False).result.report["network_evaluations"] == {"calls": 3, "samples": 6}


def test_loss_scale_zero_equals_the_plain_edit(sd):
    inverted = sd.invert(IMAGE, "red cat", method="sdedit", steps=4, eta=1.0)
    plain = inverted.edit("blue dog", skip=1, guidance_scale=2.0)
    without = inverted.edit(
        "blue dog", methods=[("diffuseit", {"loss_scale": 0.0, "resample": 1})], skip=1, guidance_scale=2.0
    )
    assert np.array_equal(plain.pixels[0], without.pixels[0])


NONE = dict.fromkeys(
    ("contrast_weight", "similarity_weight", "divergence_weight", "text_weight", "class_weight", "pixel_weight"), 0.0
)


def test_every_loss_changes_the_result(sd, target):
    plain = edit(sd, **NONE).result.pixels[0]
    strong = [(name, {"target_image": target} if name in ("class_weight", "pixel_weight") else {}) for name in NONE]
    for name, more in [*strong, ("direction_weight", {})]:
        changed = edit(sd, **NONE | more | {name: 1e5}).result.pixels[0]
        assert not np.array_equal(changed, plain), name


def test_loss_texts_may_differ_from_the_prompts(sd):
    same = edit(sd, target_text="blue dog", source_text="red cat").result.pixels[0]
    assert np.array_equal(same, edit(sd).result.pixels[0])
    assert not np.array_equal(same, edit(sd, target_text="green tree", text_weight=1e5).result.pixels[0])


def test_target_prompt_is_read_in_a_run_under_the_source_prompt(sd):
    """The run of pix2pix-zero is conditioned on the source prompt; the losses compare with the target prompt."""
    inverted = sd.invert(IMAGE, "red cat", method="ddim", steps=4)

    def edited(target, weight):
        options = {"direction_weight": weight, "crops": 1, "resample": 1}
        return inverted.edit(target, methods=["pix2pix-zero", ("diffuseit", options)], skip=1).pixels[0]

    assert not np.array_equal(edited("red dog", 1e5), edited("red dog", 0.0))
    with pytest.raises(BadInput, match="two different texts"):
        edited("red cat", 10.0)


def test_target_text_acts_on_a_model_without_text_encoder(models):
    plain, moved = (
        models("ddpm").plan(IMAGE, "", "", methods="diffuseit", steps=4, skip=1, resample=1, crops=1, **more)
        .run().result.pixels[0]
        for more in ({}, {"target_text": "blue heart", "text_weight": 1e5})
    )  # fmt: skip
    assert not np.array_equal(plain, moved)


def test_target_image_needs_no_target_prompt(sd, target):
    result = edit(sd, target="", target_image=target).result
    assert result.report["parameters"]["prompts"] == ["red cat"]


@pytest.mark.parametrize("wanted", ["source", "target"])
def test_colour_match_with_source_or_target(sd, target, wanted):
    plain = edit(sd, target="", target_image=target, residual=False)
    *_, last = plain
    decoded = sd.network.decode(last.state.x_prev)
    reference = to_tensor(read_image(IMAGE if wanted == "source" else target))
    expected = match_colours(decoded, reference)[0, :, : IMAGE.height, : IMAGE.width]
    matched = edit(sd, target="", target_image=target, residual=False, colour_match=wanted).result
    found = to_tensor(read_image(matched.images[0]))[0]
    assert (found - expected.clamp(-1, 1)).abs().max() < 0.02


@pytest.mark.parametrize("wanted", ["source", "target"])
def test_colour_match_uses_pixels_inside_the_mask(sd, target, wanted):
    mask = np.zeros((IMAGE.height, IMAGE.width), np.uint8)
    mask[2:-6, : IMAGE.width // 2] = 255
    given = {"target": "", "target_image": target, "residual": False, "mask": mask}
    *_, last = edit(sd, **given)
    decoded = sd.network.decode(last.state.x_prev)[:, :, : IMAGE.height, : IMAGE.width]
    reference = to_tensor(read_image(IMAGE if wanted == "source" else target))
    reference = reference[:, :, mask > 0][..., None] if wanted == "source" else reference
    expected = match_colours(decoded[:, :, mask > 0][..., None], reference)[0, ..., 0]
    matched = edit(sd, colour_match=wanted, **given).result
    found = to_tensor(read_image(matched.images[0]))[0, :, mask > 0]
    assert (found - expected.clamp(-1, 1)).abs().max() < 0.02


def test_two_methods_with_different_paths_are_refused():
    class Backwards(Params):
        def path(self, steps):
            return [0, 1, 0, *range(1, steps + 1)]

    one, other = METHODS.find("diffuseit"), METHODS.find("sdedit")
    params = DiffuseITParams(resample=3)
    with pytest.raises(BadInput, match="diffuseit and sdedit repeat different steps"):
        Composition(((one, params), (other, Backwards())), (), params).path(4)
    assert Composition(((one, params), (other, Params())), (), params).path(2) == (0, 1, 0, 1, 0, 1, 2)
    assert Composition(((other, Params()),), (), params).path(2) == ()


def saved(kind, folder):
    """The folder of a saved vision transformer for images of 16 pixels."""
    encoders.save(kind, folder)
    return str(folder)


def first_step(sd, **options):
    return next(each for each in edit(sd, **options) if each.stage == "edit")


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("kind", ["dinov2", "vit"])
def test_prediction_changes_by_the_gradient_of_the_losses_of_the_vit(sd, tmp_path, kind, through):
    """P_t - l s_t^2 / sqrt(abar_{t-1}) dL/dx_t, with the self-similarity of keys of the vision transformer as L."""
    folder = saved(kind, tmp_path)
    given = NONE | {"range_weight": 0.0, "similarity_weight": 100.0, "vit_folder": folder, "through_network": through}
    plain, guided = (first_step(sd, **given, loss_scale=scale).state for scale in (0.0, 2.5))
    vit = VisionEncoder(tmp_path)

    def self_similarity(latents):
        keys = F.normalize(vit.keys(sd.network.decode(latents)), dim=-1)
        return keys @ keys.mT

    x, abar, abar_prev = plain.x_t.clone().requires_grad_(), plain.abar, plain.abar_prev
    eps = sd.network.predict(x, plain.t, plain.condition) if through else plain.eps
    P = (x.double() - (1 - abar) ** 0.5 * eps) / abar**0.5
    loss = 100 * (self_similarity(P) - self_similarity(plain.source[-1])).square().mean()
    (gradient,) = torch.autograd.grad(loss, x)
    expected = -2.5 * (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev) / abar_prev**0.5 * gradient.double()
    assert expected.abs().max() > 0.01
    change = guided.x0_prediction - plain.x0_prediction
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-5 * expected.abs().max())


@pytest.fixture(scope="module")
def without_class_token(tmp_path_factory):
    folder = tmp_path_factory.mktemp("siglip")
    with seeded(0):
        model = SiglipVisionModel(SiglipVisionConfig(intermediate_size=32, **encoders.SMALL))
    model.save_pretrained(folder)
    statistics = {"image_mean": encoders.MEAN, "image_std": encoders.STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return str(folder)


def test_vit_without_class_token_needs_zero_divergence_weight(sd, without_class_token):
    refused(sd, "has no class token", vit_folder=without_class_token)
    first_step(sd, vit_folder=without_class_token, divergence_weight=0.0)


def refused(sd, message, **options):
    """Check that the edit raises BadInput with a message of one line, before any network evaluation."""
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=message) as caught:
        edit(sd, **options)
    assert "\n" not in str(caught.value)
    assert sd.network.count.calls == calls


REFUSALS = [
    ({"target_image": "nowhere.png"}, "nowhere.png"),
    ({"colour_match": "target"}, "needs a target_image"),
    ({"target_text": "dog", "text_weight": 0.0}, "target_text has no effect .* text_weight or direction_weight above"),
    ({"target_image": "a.png", "class_weight": 0.0, "pixel_weight": 0.0}, "target_image has no effect with weights"),
    ({"source_text": "cat", "text_weight": 0.0}, "source_text has no effect .* text_weight or direction_weight above"),
    ({"target_image": "a.png", "direction_weight": 1.0}, "which a target_image replaces: give a target_text too"),
    ({"target_image": "a.png", "source_text": "cat"}, "which a target_image replaces: give a target_text too"),
    ({"target_text": "dog " * 60}, "tokens and the dual encoder accepts at most 40"),
    ({"target": ""}, "target prompt is empty"),
    ({"target": "red cat", "direction_weight": 1.0}, "two different texts"),
    ({"vit_folder": "nowhere"}, "nowhere is not a folder"),
    ({"clip_folder": "nowhere"}, "nowhere is not a folder"),
    ({"resample": 0}, "resample must be"),
    ({"inversion": "ddim"}, "eta must be 0"),
]


@pytest.mark.parametrize(("options", "message"), REFUSALS)
def test_invalid_options_are_refused_in_one_line(sd, options, message):
    refused(sd, message, **({"eta": 1.0} if "inversion" in options else {}) | options)


def test_a_target_image_of_other_proportions_has_no_pixel_loss(sd, tmp_path):
    """The pixel loss compares positions, so the target is not stretched to the edited image; other losses accept it."""
    path = tmp_path / "wide.png"
    tiny_image(48, 32, seed=9).save(path)
    wide = {"target": "", "target_image": str(path)}
    refused(
        sd, "48 x 32 pixels: crop it to the proportions of the edited image, 8 : 8, or set pixel_weight to 0", **wide
    )
    first_step(sd, **wide, pixel_weight=0.0)


def test_target_file_that_is_no_image_is_refused(sd, tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("no image")
    refused(sd, "notes.png", target_image=str(path))


def test_preview_is_the_decoded_prediction_after_guidance(sd):
    plain, guided = (first_step(sd, loss_scale=scale) for scale in (0.0, 1.0))
    (shown,) = guided.preview()
    assert np.array_equal(shown, to_uint8(sd.network.decode(guided.state.x0_prediction)))
    assert not np.array_equal(shown, plain.preview()[0])
