"""Conditions, predictions and complete runs equal those of diffusers' pipelines."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DiffusionPipeline, VQModel

from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.core.loop import recorded, reverse
from sfumato.models.load import load_model
from tests import tiny

PROMPTS = ["red apple, twemoji", "a blue cat"]
TEXT_LAYOUTS = ["sd", "sd2", "sdxl"]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def open_both(tiny_folder):
    def open_both(layout):
        pipeline = DiffusionPipeline.from_pretrained(tiny_folder(layout), local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        return load_model(tiny_folder(layout), "cpu"), pipeline

    return open_both


@pytest.mark.parametrize("layout", TEXT_LAYOUTS)
@torch.no_grad()
def test_condition_equals_the_pipeline_prompt_embedding(layout, open_both):
    model, pipeline = open_both(layout)
    expected = pipeline.encode_prompt(PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    positive, negative = model.condition(PROMPTS), model.condition(["", ""])
    assert torch.equal(positive.tokens, expected[0])
    assert torch.equal(negative.tokens, expected[1])
    if layout == "sdxl":
        assert torch.equal(positive.pooled, expected[2])
        assert torch.equal(negative.pooled, expected[3])
        assert not negative.tokens.any()
        assert model.condition(PROMPTS, size=(48, 64)).added.tolist() == [[48, 64, 0, 0, 48, 64]] * 2
    else:
        assert positive.pooled is None


@pytest.mark.parametrize("setting", [True, False, None])
@torch.no_grad()
def test_force_zeros_for_empty_prompt_follows_the_pipeline(setting, tiny_sdxl_folder, tmp_path):
    folder = shutil.copytree(tiny_sdxl_folder, tmp_path / "m")
    index = json.loads((folder / "model_index.json").read_text())
    del index["force_zeros_for_empty_prompt"]
    index |= {} if setting is None else {"force_zeros_for_empty_prompt": setting}
    (folder / "model_index.json").write_text(json.dumps(index))
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    _, expected, _, pooled = pipeline.encode_prompt(["red"], device="cpu")
    negative = load_model(folder, "cpu").condition("")
    assert torch.equal(negative.tokens, expected)
    assert torch.equal(negative.pooled, pooled)


def test_attention_mask_is_passed_to_the_text_encoder(open_both):
    model, pipeline = open_both("sd")
    plain = model.condition(PROMPTS).tokens
    model.text_encoders[0].encoder.config.use_attention_mask = True
    pipeline.text_encoder.config.use_attention_mask = True
    expected = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)[0]
    assert torch.equal(model.condition(PROMPTS).tokens, expected.detach())
    assert not torch.equal(plain, expected)


@pytest.mark.parametrize("layout", TEXT_LAYOUTS)
@torch.no_grad()
def test_prediction_is_the_network_output_converted_to_noise(layout, open_both):
    model, pipeline = open_both(layout)
    x, cond = noise(2, 4, 8, 16), model.condition(PROMPTS)
    added = {"text_embeds": cond.pooled, "time_ids": cond.added} if layout == "sdxl" else None
    output = pipeline.unet(x, 500, encoder_hidden_states=cond.tokens, added_cond_kwargs=added).sample
    if layout == "sd2":
        abar = pipeline.scheduler.alphas_cumprod[500]
        output = abar.sqrt() * output + (1 - abar).sqrt() * x
    torch.testing.assert_close(model.predict(x, 500, cond), output, atol=1e-6, rtol=0)


@torch.no_grad()
def test_x0_prediction_is_converted_to_noise(tmp_path):
    model = load_model(tiny.tiny_sd(tmp_path / "m", prediction_type="sample"), "cpu")
    x, cond = noise(1, 4, 8, 8), model.condition("red")
    abar = model.schedule.alphas_cumprod[300].float()
    clean = model.unet(x, 300, encoder_hidden_states=cond.tokens).sample
    back = abar.sqrt() * clean + (1 - abar).sqrt() * model.predict(x, 300, cond)
    torch.testing.assert_close(back, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", TEXT_LAYOUTS)
@torch.no_grad()
def test_guided_run_matches_the_pipeline_image(layout, open_both):
    model, pipeline = open_both(layout)
    height, width, x = 48, 32, noise(2, 4, 12, 8)
    expected = pipeline(
        PROMPTS,
        height=height,
        width=width,
        latents=x.clone(),
        num_inference_steps=10,
        guidance_scale=5.0,
        output_type="pt",
    ).images
    positive = model.condition(PROMPTS, size=(height, width))
    guided = classifier_free(model, model.condition(["", ""], size=(height, width)), (5.0, 5.0))
    *_, last = reverse(guided, x, model.schedule.timesteps(10), positive, eta=0.0, noise_maps=recorded(None))
    pixels = (model.decode(last.x_prev) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_unconditional_run_matches_the_scheduler(open_both):
    model, pipeline = open_both("ddpm")
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(10)
    start = expected = noise(1, 3, 16, 16)
    for t in scheduler.timesteps:
        expected = scheduler.step(pipeline.unet(expected, t).sample, t, expected).prev_sample
    steps = model.schedule.timesteps(10)
    *_, last = reverse(model, start, steps, Condition(rows=1), eta=0.0, noise_maps=recorded(None))
    torch.testing.assert_close(last.x_prev, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("kind", "module"), [("kl", AutoencoderKL), ("vq", VQModel), ("tiny", AutoencoderTiny)])
@torch.no_grad()
def test_latents_are_scaled_autoencoder_outputs(kind, module, tmp_path):
    folder = tiny.tiny_sd(tmp_path / "m", vae=kind)
    model = load_model(folder, "cpu")
    vae = module.from_pretrained(folder, subfolder="vae", local_files_only=True)
    pixels = noise(2, 3, 16, 32).clamp(-1, 1)
    encoded = vae.encode(pixels)
    raw = encoded.latent_dist.mode() if kind == "kl" else encoded.latents
    latents = model.encode(pixels)
    torch.testing.assert_close(latents, raw * vae.config.scaling_factor, atol=1e-6, rtol=0)
    assert latents.shape[1:] == model.latent_shape(16, 32)
    expected = vae.decode(latents / vae.config.scaling_factor).sample
    torch.testing.assert_close(model.decode(latents), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_shift_and_statistics_of_latents_are_undone_by_decoding(tmp_path):
    folder = tiny.tiny_sd(tmp_path / "m")
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", local_files_only=True)
    statistics = {"latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [0.5, 1.0, 2.0, 4.0], "shift_factor": 0.25}
    vae.register_to_config(**statistics)
    vae.save_pretrained(folder / "vae")
    model, pixels = load_model(folder, "cpu"), noise(1, 3, 16, 16).clamp(-1, 1)
    torch.testing.assert_close(model.decode(model.encode(pixels)), vae(pixels).sample, atol=1e-5, rtol=0)
    mean, std = (torch.tensor(statistics[f"latents_{name}"]).view(1, 4, 1, 1) for name in ("mean", "std"))
    expected = (vae.encode(pixels).latent_dist.mode() - mean - 0.25) / std * 0.5
    torch.testing.assert_close(model.encode(pixels), expected, atol=1e-6, rtol=0)
