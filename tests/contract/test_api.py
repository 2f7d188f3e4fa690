"""The Python API: batching, seeds, masks, files, reports."""

import json
import math
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.api import Model
from sfumato.core.batching import rows_per_call
from sfumato.errors import BadInput
from sfumato.images import read_recipe
from tests.contract.images import IMAGE, OTHER
from tests.tiny import tiny_image


def test_public_names():
    assert sfumato.Model is Model
    assert callable(sfumato.load)


def test_reconstruction_error_with_and_without_exact(models, layout):
    """With `exact` the error is at most 1e-6; by default, batches of another size add rounding errors."""
    model = models(layout)
    prompt = "red cat" if model.network.takes_text else ""
    exact = model.invert([IMAGE, OTHER], prompt, steps=8, exact=True)
    default = model.invert([IMAGE, OTHER], prompt, steps=8)
    errors = [each.reconstruct().report["reconstruction_latent_max_error"] for each in (exact, default)]
    assert errors[0] <= 1e-6
    # random weights amplify rounding errors; the limit for trained weights is 1e-5, see test_shipped_model.py
    assert errors[1] <= 1e-2


def test_number_of_network_evaluations(sd):
    run = sd.invert_steps(IMAGE, "red cat", steps=20)
    states = list(run)
    assert [progress.done for progress in states] == list(range(1, 21))
    rows = rows_per_call(4, 8, 8)
    assert run.result.report["network_evaluations"] == {"calls": math.ceil(40 / rows), "samples": 40}
    edit = run.result.edit("green dog", skip=5, guidance_scale=9)
    assert edit.report["network_evaluations"] == {"calls": 15, "samples": 30}
    one = run.result.edit("green dog", skip=5, guidance_scale=1)
    assert one.report["network_evaluations"] == {"calls": 15, "samples": 15}


def test_batch_limits_the_rows_per_call(sd, monkeypatch):
    rows = []
    forward = sd.network._forward
    monkeypatch.setattr(sd.network, "_forward", lambda x, t, cond: rows.append(len(x)) or forward(x, t, cond))
    inverted = sd.invert([IMAGE] * 5, "red cat", steps=6, batch=4)
    inverted.edit("green dog", skip=1, guidance_scale=9)
    assert max(rows) == 4


def test_images_of_several_sizes_are_returned_in_order(inverted):
    edit = inverted.edit(["green cat", "green dog"], guidance_scale=5)
    assert [image.size for image in edit.images] == [IMAGE.size, OTHER.size]
    assert edit.sources == inverted.images


def test_num_inference_steps_is_accepted_for_steps(sd):
    assert sd.invert(IMAGE, "red cat", num_inference_steps=7).params.steps == 7
    assert sd.plan(IMAGE, "red cat", "green cat", num_inference_steps=7).sources.params.steps == 7
    composed = sd.plan(IMAGE, "red cat", "green cat", methods=["prompt-to-prompt"], num_inference_steps=30)
    assert composed.sources.params.steps == 30
    assert len(list(sd.generate_steps("red cat", num_inference_steps=3))) == 3
    with pytest.raises(BadInput, match="num_inference_steps is another name for steps: give one of them"):
        sd.generate_steps("red cat", num_inference_steps=3, steps=3)


def test_one_image_with_several_seeds_gives_several_edits(sd):
    inverted = sd.invert(IMAGE, "red cat", steps=8, seed=[1, 2, 3])
    assert len(inverted) == 3
    edits = inverted.edit("green dog", skip=1, guidance_scale=9)
    assert len(edits) == 3
    assert not np.array_equal(edits.pixels[0], edits.pixels[1])
    again = sd.invert(IMAGE, "red cat", steps=8, seed=2).edit("green dog", skip=1, guidance_scale=9)
    assert abs(again.pixels[0].astype(int) - edits.pixels[1]).max() <= 2


def test_one_inversion_with_several_prompts_and_guidance_scales(sd):
    inverted = sd.invert(IMAGE, "red cat", steps=8)
    edits = inverted.edit(["green dog", "blue tree"], skip=1, guidance_scale=9)
    assert len(edits) == 2
    assert not np.array_equal(*edits.pixels)
    stronger = inverted.edit("green dog", skip=1, guidance_scale=[9, 2])
    assert abs(stronger.pixels[0].astype(int) - edits.pixels[0]).max() <= 2
    assert not np.array_equal(*stronger.pixels)
    assert stronger.report["parameters"]["guidance_scale"] == [9, 2]
    for recipe, scale in zip(stronger.recipes, (9, 2), strict=True):
        assert recipe["guidance_scale"] == recipe["methods"][0]["guidance_scale"] == scale


def test_edit_steps_yields_progress_and_previews(sd, inverted):
    run = inverted.edit_steps("green dog", guidance_scale=5, skip=3)
    last = None
    for last in run:
        assert last.stage == "edit"
        assert 1 <= last.done <= last.total == 10
        assert all(image.size in (IMAGE.size, OTHER.size) for image in last.preview())
    assert last.done == last.total
    direct = inverted.edit("green dog", guidance_scale=5, skip=3)
    assert all(np.array_equal(a, b) for a, b in zip(run.result.pixels, direct.pixels, strict=True))


def test_result_runs_the_remaining_steps(inverted):
    run = inverted.edit_steps("green dog", guidance_scale=5, skip=3)
    next(run)
    assert run.result.report["network_evaluations"]["calls"] == 10
    assert run.result is run.result


def test_report_is_json_with_the_expected_entries(inverted):
    report = json.loads(json.dumps(inverted.edit("green dog", check=True).report, allow_nan=False))
    assert report["reconstruction_latent_max_error"] <= 1e-6
    assert report["seconds"] > 0
    assert report["network_evaluations"]["calls"] > 0
    assert report["parameters"]["skip"] == 3, "the default fraction of the steps: 36 of 100"
    assert set(report["metrics"]) >= {"edit_psnr", "edit_ssim", "autoencoder_psnr"}
    assert report["inversion"]["images"][1]["size"] == [40, 24]


def test_check_is_computed_once(sd):
    inverted = sd.invert(IMAGE, "red cat", steps=6)
    assert inverted.edit("green dog").report["reconstruction_latent_max_error"] is None
    first = inverted.edit("green dog", check=True).report
    again = inverted.edit("green dog", check=True).report
    assert first["network_evaluations"]["calls"] == again["network_evaluations"]["calls"] + 6
    assert again["reconstruction_latent_max_error"] == first["reconstruction_latent_max_error"] is not None


def test_residual_removes_the_autoencoder_error(inverted):
    plain, whole = inverted.reconstruct(), inverted.reconstruct(residual=True)
    assert plain.report["metrics"]["reconstruction_psnr"][0] < 40
    for pixels, image in zip(whole.pixels, (IMAGE, OTHER), strict=True):
        assert abs(pixels.astype(int) - np.asarray(image)).max() <= 1


def test_residual_can_be_switched_off(inverted, sd):
    same = {"guidance_scale": 3.5, "skip": 0}
    kept = inverted.edit(["red cat", "blue dog"], **same)
    soft = inverted.edit(["red cat", "blue dog"], residual=False, **same)
    assert abs(kept.pixels[0].astype(int) - np.asarray(IMAGE)).max() <= 1
    assert np.array_equal(soft.pixels[0], inverted.reconstruct().pixels[0])


def test_residual_fades_where_the_edit_changed_the_image():
    import torch

    from sfumato.api.finish import add_residual

    source = torch.rand(1, 3, 32, 32) * 2 - 1
    decoded = source * 0.5
    edited = decoded.clone()
    edited[..., 16:] = -decoded[..., 16:].sign()
    result = add_residual(edited, decoded, source, 2.0)
    assert torch.allclose(result[..., :10], source[..., :10], atol=1e-4)
    assert torch.allclose(result[..., 24:], edited[..., 24:], atol=1e-2)


def test_masks_keep_pixels_outside_unchanged(inverted, tmp_path):
    masks = []
    for n, image in enumerate((IMAGE, OTHER)):
        mask = np.zeros((image.height, image.width), np.uint8)
        mask[4:12, 5:14] = 255
        Image.fromarray(mask).save(tmp_path / f"{n}.png")
        masks.append(tmp_path / f"{n}.png")
    edit = inverted.edit("green dog", skip=0, guidance_scale=9, mask=masks)
    for pixels, image, mask in zip(edit.pixels, (IMAGE, OTHER), masks, strict=True):
        outside = np.asarray(Image.open(mask)) == 0
        assert np.array_equal(pixels[outside], np.asarray(image)[outside])
        assert (pixels[~outside] != np.asarray(image)[~outside]).any()


def test_saved_file_contains_alpha_and_recipe(sd, tmp_path):
    image = IMAGE.convert("RGBA")
    alpha = np.full((32, 32), 255, np.uint8)
    alpha[:8] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "in.png")
    edit = sd.invert(tmp_path / "in.png", "red cat", steps=5).edit("green dog")
    edit.save(tmp_path / "out.png")
    written = Image.open(tmp_path / "out.png")
    assert written.mode == "RGBA"
    assert np.array_equal(np.asarray(written)[..., 3], alpha)
    recipe = read_recipe(tmp_path / "out.png")
    assert (recipe["operation"], recipe["prompt"], recipe["source_prompt"]) == ("edit", "green dog", "red cat")
    assert (recipe["dtype"], recipe["device"]) == ("float32", "cpu")
    assert recipe["versions"] == {name: version(name) for name in ("sfumato", "torch", "diffusers")}
    assert "/" not in json.dumps(recipe)
    edit.save(tmp_path / "plain.png", recipe=False)
    with pytest.raises(BadInput, match="no sfumato recipe"):
        read_recipe(tmp_path / "plain.png")


def test_max_pixels_limits_the_image_size(sd):
    width, height = tiny_image().size
    with pytest.raises(BadInput, match=f"limit of {width * height - 1:,}"):
        sd.invert_steps(tiny_image(), max_pixels=width * height - 1)
    assert len(sd.invert(tiny_image(), max_pixels=width * height, steps=2)) == 1
    with pytest.raises(BadInput, match="max_pixels must be an integer"):
        sd.invert_steps(tiny_image(), max_pixels=None)


def test_save_and_open(sd, tmp_path):
    inverted = sd.invert(IMAGE, "red cat", steps=6, exact=True, seed=4)
    expected = inverted.edit("green dog", guidance_scale=5, skip=2)
    inverted.save(tmp_path / "cat.safetensors")
    for images in (None, IMAGE):
        opened = sd.open(tmp_path / "cat.safetensors", images)
        assert np.array_equal(opened.edit("green dog", guidance_scale=5, skip=2).pixels[0], expected.pixels[0])
        assert opened.params == inverted.params
    with pytest.raises(BadInput, match="not the images"):
        sd.open(tmp_path / "cat.safetensors", OTHER)


def test_open_refuses_another_model(sd, models, tmp_path):
    sd.invert(IMAGE, "red cat", steps=4).save(tmp_path / "cat.safetensors")
    with pytest.raises(BadInput, match="another model"):
        models("sd2").open(tmp_path / "cat.safetensors")


def test_save_of_several_sizes_is_refused(inverted, tmp_path):
    with pytest.raises(BadInput, match="separately"):
        inverted.save(tmp_path / "two.safetensors")


def test_generate(models, layout):
    model = models(layout)
    prompts = ["red cat", "green dog"] if model.network.takes_text else [""]
    result = model.generate(prompts, steps=5, seed=[3, 4], size=(32, 16))
    assert [image.size for image in result.images] == [(32, 16), (32, 16)]
    alone = model.generate(prompts[-1], steps=5, seed=4, size=(32, 16))
    assert abs(alone.pixels[0].astype(int) - result.pixels[1]).max() <= 2
    native = model.generate(prompts[0], steps=3, eta=1.0)
    assert native.images[0].size == model.network.native_size[::-1]
    json.dumps(result.report, allow_nan=False)


def test_generate_steps(sd):
    run = sd.generate_steps("red cat", steps=4, seed=[0, 1, 2], batch=4)
    assert [progress.done for progress in run] == list(range(1, 9))
    assert len(run.result) == 3


def test_model_settings_are_the_defaults(sd, monkeypatch):
    tuned = {"edit": {"steps": 10, "skip": 2, "guidance_scale": 6.0}, "generate": {"steps": 3}, "summary": "x"}
    monkeypatch.setattr(sd.network, "settings", tuned)
    inverted = sd.invert(IMAGE, "red cat")
    assert (inverted.params.steps, inverted.params.skip, inverted.params.guidance_scale) == (10, 2, 6.0)
    assert sd.invert(IMAGE, "red cat", steps=20).params.skip == 4
    assert sd.invert(IMAGE, "red cat", steps=20, skip=1).params.skip == 1
    assert sd.generate("red cat").report["parameters"]["steps"] == 3


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (9, 8)])
def test_tiny_and_thin_images_keep_their_size(models, layout, size):
    model = models(layout)
    image = tiny_image(64, 64).resize(size)
    source, target = ("red cat", "green dog") if model.network.takes_text else ("", "")
    edit = model.invert(image, source, steps=3).edit(target)
    assert edit.images[0].size == size


@pytest.fixture
def with_dual_encoder(tiny_sd_folder, tmp_path):
    """A model folder with a tiny dual encoder."""
    import shutil

    from transformers import CLIPConfig, CLIPModel

    from tests.tiny import seeded, text_config, tiny_tokenizer

    folder = tmp_path / "scored"
    shutil.copytree(tiny_sd_folder, folder)
    tokenizer = tiny_tokenizer()
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 8}
    with seeded(0):
        clip = CLIPModel(
            CLIPConfig(
                text_config=text_config(tokenizer).to_dict(),
                vision_config={**vision, "projection_dim": 16},
                projection_dim=16,
            )
        )
    clip.save_pretrained(folder / "dual_encoder")
    tokenizer.save_pretrained(folder / "dual_encoder")
    preprocessor = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "dual_encoder" / "preprocessor_config.json").write_text(
        json.dumps({**preprocessor, "do_center_crop": False})
    )
    return folder


def test_dual_encoder_in_the_folder_adds_similarity_metrics(with_dual_encoder):
    model = sfumato.load(str(with_dual_encoder))
    metrics = model.invert(IMAGE, "red cat", steps=4).edit(["green dog", "blue tree"]).report["metrics"]
    for name in ("source_similarity_to_target", "edit_similarity_to_target"):
        assert len(metrics[name]) == 2
        assert all(-1 <= value <= 1 for value in metrics[name])
    without = model.invert(IMAGE, "red cat", method="colour", steps=4).edit(colour="blue").report["metrics"]
    assert "source_similarity_to_source" in without
    assert not [name for name in without if name.endswith("to_target")]  # there is no target prompt
    assert len(model.generate("red cat", steps=2).report["metrics"]["similarity"]) == 1


def test_prompts_too_long_for_the_dual_encoder_have_no_similarity(with_dual_encoder):
    model = sfumato.load(str(with_dual_encoder), prompt_chunks=3)
    encoder, long = model.dual_encoder, " ".join(["red cat"] * 40)
    count = encoder.token_counts([long])[0]
    note = f"No similarity: the prompt has {count} tokens, and the dual encoder reads at most {encoder.context}."
    edit = model.plan(IMAGE, "red cat", long, steps=2).run().result.report
    assert "source_similarity_to_source" in edit["metrics"]
    assert not [name for name in edit["metrics"] if name.endswith("to_target")]
    assert edit["notes"].count(note) == 1
    source = model.invert(IMAGE, long, steps=2).edit("red cat").report
    assert "edit_similarity_to_target" in source["metrics"]
    assert "source_similarity_to_source" not in source["metrics"]
    assert note in source["notes"]
    made = model.generate([long, "red cat"], steps=2).report
    assert made["metrics"] == {}
    assert note in made["notes"]


def test_unusable_dual_encoder_is_found_before_the_first_step(with_dual_encoder):
    model = sfumato.load(str(with_dual_encoder))
    (with_dual_encoder / "dual_encoder" / "preprocessor_config.json").unlink()
    with model.network.counting() as count, pytest.raises(BadInput, match=r"preprocessor_config\.json"):
        model.generate("red cat", steps=2)
    assert count.calls == 0


def test_methods_of_other_packages_are_found(install_method, sd):
    install_method("thirdparty", "added")
    assert len(sd.invert(IMAGE, "red cat", method="added", steps=3).edit("green dog")) == 1
