"""`Model.from_pipe` equals loading the folder, with the LoRAs, embeddings and schedulers set on the pipeline."""

import copy
import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
from accelerate import cpu_offload_with_hook
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler

import sfumato
from sfumato.core.guidance import classifier_free
from sfumato.core.loop import recorded, reverse
from sfumato.errors import BadInput
from sfumato.models.attention import Layers, ReplaceMaps
from sfumato.models.load import load_model
from sfumato.models.pipelines import _float32, from_pipeline
from tests import tiny
from tests.models.lora_made import write_lora

SIMILAR = {
    "sd": ["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline",
           "StableDiffusionInstructPix2PixPipeline"],
    "sdxl": ["StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"],
}  # fmt: skip


@pytest.fixture
def pipe_of(tiny_folder):
    def pipe_of(layout="sd", **options):
        pipe = DiffusionPipeline.from_pretrained(tiny_folder(layout), local_files_only=True, **options)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return pipe_of


@pytest.mark.parametrize("layout", list(tiny.LAYOUTS))
def test_edit_equals_that_of_the_loaded_folder(layout, pipe_of, tiny_folder):
    shared, opened = sfumato.Model.from_pipe(pipe_of(layout)), sfumato.load(tiny_folder(layout), "cpu")
    assert shared.network.fingerprint() == opened.network.fingerprint()
    size = shared.network.native_size[0]
    image, words = tiny.tiny_image(size, size), {"ddpm": ("", "")}.get(layout, ("red apple", "blue cat"))
    method = "shift" if layout == "ddpm" else "edit-friendly"
    results = []
    for model in (shared, opened):
        inverted = model.invert(image, words[0], steps=3, **({} if layout == "ddpm" else {"method": method}))
        results.append(inverted.edit(words[1], residual=False) if words[1] else inverted.reconstruct())
    assert np.array_equal(results[0].pixels[0], results[1].pixels[0])


@pytest.mark.parametrize(("layout", "kind"), [(layout, kind) for layout, kinds in SIMILAR.items() for kind in kinds])
def test_networks_are_shared_with_pipelines_of_every_task(layout, kind, pipe_of):
    pipe = pipe_of(layout)
    other = getattr(diffusers, kind)
    options = {"requires_safety_checker": False} if layout == "sd" and "InstructPix2Pix" not in kind else {}
    other = other(**{n: part for n, part in pipe.components.items() if n != "image_encoder"}, **options)
    model = from_pipeline(other)
    assert model.unet is pipe.unet
    assert model.codec.module is pipe.vae
    assert model.text_encoders[0].encoder is pipe.text_encoder


def test_replaced_scheduler_is_used(pipe_of):
    pipe = pipe_of()
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    schedule = from_pipeline(pipe).schedule
    assert (schedule.spacing, schedule.prediction_type) == ("trailing", "v_prediction")


@pytest.mark.parametrize("solver", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize("to_one", [True, False])
def test_settings_unknown_to_the_scheduler_class_are_kept(solver, to_one, tiny_sdxl_folder, tmp_path):
    """SDXL's scheduler file contains such settings for EulerDiscreteScheduler."""
    folder = shutil.copytree(tiny_sdxl_folder, tmp_path / "sdxl")
    about = {"_class_name": solver, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
             "set_alpha_to_one": to_one, "steps_offset": 1}  # fmt: skip
    write_scheduler(folder, about)
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    opened, shared = load_model(folder, "cpu"), from_pipeline(pipe)
    ddim = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    assert opened.schedule.final_alpha_cumprod == shared.schedule.final_alpha_cumprod == float(ddim.final_alpha_cumprod)
    assert opened.schedule.steps_offset == shared.schedule.steps_offset == 1
    assert opened.fingerprint() == shared.fingerprint()


@pytest.mark.parametrize("setting", [{"thresholding": True}, {"variance_type": "learned"}, {"clip_sample": True}])
def test_other_unknown_settings_act_alike_for_folder_and_pipeline(setting, tiny_ddpm_folder, tmp_path):
    folder = shutil.copytree(tiny_ddpm_folder, tmp_path / "ddpm")
    write_scheduler(folder, {"_class_name": "EulerDiscreteScheduler", "clip_sample_range": 2.0, **setting})
    pipe, found = DiffusionPipeline.from_pretrained(folder, local_files_only=True), []
    for opening in (lambda: load_model(folder, "cpu"), lambda: from_pipeline(pipe)):
        try:
            found.append(opening().schedule.sample_range)
        except BadInput as error:
            found.append(str(error))
    assert found[0] == found[1]
    assert found[0] == 2.0 if "clip_sample" in setting else "which is not supported" in found[0]


def write_scheduler(folder, about):
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(about))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", about["_class_name"]]
    (folder / "model_index.json").write_text(json.dumps(index))


def test_half_precision_autoencoder_of_the_pipeline_is_unchanged(pipe_of):
    pipe = pipe_of(torch_dtype=torch.bfloat16)
    model = from_pipeline(pipe)
    assert model.dtype == torch.bfloat16
    assert pipe.vae.dtype == torch.bfloat16
    assert next(model.codec.module.parameters()).dtype == torch.float32
    pixels = torch.zeros(1, 3, 16, 16)
    assert model.decode(model.encode(pixels)).isfinite().all()
    pipe("red apple", num_inference_steps=1)


def test_only_the_autoencoder_of_an_offloaded_pipeline_is_copied(pipe_of, monkeypatch):
    """The hooks of an offloaded pipeline refer to each other, and so to all its networks."""
    pipe = pipe_of(dtype=torch.float16)
    before = None
    for network in (pipe.text_encoder, pipe.unet, pipe.vae):
        _, before = cpu_offload_with_hook(network, "cpu", prev_module_hook=before)
    copied = []
    original = copy.deepcopy

    def deepcopy(value, memo=None):
        found = original(value, memo)
        copied.extend(type(each).__name__ for each in (memo or {}).values() if isinstance(each, torch.nn.Module))
        return found

    monkeypatch.setattr(copy, "deepcopy", deepcopy)
    assert _float32(pipe.vae).dtype == torch.float32
    assert pipe.vae.dtype == torch.float16
    assert pipe.vae._hf_hook.prev_module_hook.hook is pipe.unet._hf_hook
    assert "AutoencoderKL" in copied
    assert not {"UNet2DConditionModel", "CLIPTextModel"} & set(copied)


@torch.no_grad()
def sampled(model, prompts, x, scale=3.0):
    condition = model.condition(prompts)
    guided = classifier_free(model, model.condition([""] * len(prompts)), [scale] * len(prompts))
    *_, last = reverse(guided, x, model.schedule.timesteps(4), condition, eta=0.0, noise_maps=recorded(None))
    return last.x_prev


@pytest.mark.parametrize("layout", ["sd", "sdxl"])
def test_active_loras_match_the_pipeline_and_fused_loras(layout, pipe_of, tmp_path):
    pipe, x = pipe_of(layout), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = sampled(from_pipeline(pipe), ["red apple"], x)
    pipe.load_lora_weights(str(write_lora(pipe, tmp_path / "a.safetensors", "peft")), adapter_name="a")
    pipe.set_adapters(["a"], [0.7])
    model = from_pipeline(pipe)
    active = sampled(model, ["red apple"], x)
    assert (active - plain).abs().max() > 1e-2
    expected = pipe("red apple", latents=x.clone(), num_inference_steps=4, guidance_scale=3.0, output_type="latent")
    torch.testing.assert_close(active, expected.images, atol=2e-5, rtol=1e-5)
    first = model.fingerprint()
    pipe.set_adapters(["a"], [0.3])
    assert model.fingerprint() != first  # the scale is not among the weights
    pipe.set_adapters(["a"], [0.7])
    assert model.fingerprint() == first
    pipe.fuse_lora(adapter_names=["a"])
    torch.testing.assert_close(sampled(from_pipeline(pipe), ["red apple"], x), active, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_attention_maps_with_active_loras_can_be_replaced(pipe_of, tmp_path):
    """Halving all maps halves the output of the layers up to their bias, as the same taps do on fused weights."""
    pipe, x = pipe_of(), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    pipe.load_lora_weights(str(write_lora(pipe, tmp_path / "a.safetensors", "peft")))
    tap = ReplaceMaps(Layers(cross=True), lambda name, maps: maps / 2)
    active = from_pipeline(pipe)
    changed = active.predict(x, 500, active.condition("red apple"), [tap])
    assert (changed - active.predict(x, 500, active.condition("red apple"))).abs().max() > 1e-3
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    fused = from_pipeline(pipe)
    expected = fused.predict(x, 500, fused.condition("red apple"), [tap])
    torch.testing.assert_close(changed, expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_textual_inversions_of_the_pipeline_are_used(pipe_of):
    pipe = pipe_of()
    vectors = torch.randn(3, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    pipe.load_textual_inversion({"<toy>": vectors})
    model = from_pipeline(pipe)
    prompt = "a red <toy>, twemoji"
    assert torch.equal(model.condition(prompt).tokens, pipe.encode_prompt(prompt, "cpu", 1, False)[0])
    read = model.condition(prompt).prompts[0]
    assert read.words == ("a", "red", "<toy>", ",", "twemoji")
    assert read.places[2] == (3, 4, 5)


def test_unsupported_pipelines_are_rejected(pipe_of, tiny_sd_folder):
    with pytest.raises(BadInput, match="a pipeline object of diffusers, not a PosixPath"):
        sfumato.Model.from_pipe(tiny_sd_folder)
    pipe = pipe_of()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(BadInput, match="FlowMatchEulerDiscreteScheduler is not a schedule"):
        sfumato.Model.from_pipe(pipe)
    pipe = pipe_of()
    pipe.unet.encoder_hid_proj = torch.nn.Identity()
    with pytest.raises(BadInput, match="unload_ip_adapter"):
        sfumato.Model.from_pipe(pipe)
