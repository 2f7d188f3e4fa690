"""Finding and loading models, and rejecting invalid ones."""

import json
import shutil

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler
from safetensors.torch import load_file, save_file

from sfumato import hub
from sfumato.devices import pick_device
from sfumato.errors import BadInput
from sfumato.models import bundled
from sfumato.models.load import bundled_path, list_models, load_model
from sfumato.models.precision import pick_dtype
from tests import tiny
from tests.models.original_layout import write_checkpoint

pytestmark = pytest.mark.usefixtures("read_every_time")


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return lambda layout="sd": shutil.copytree(tiny_folder(layout), tmp_path / layout)


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_single_file_is_the_same_model_as_its_folder(tiny_sd_folder, tmp_path):
    path = write_checkpoint(tiny_sd_folder, tmp_path / "model.safetensors")
    single = load_model(path, "cpu", config=tiny_sd_folder)
    assert single.fingerprint() == load_model(tiny_sd_folder, "cpu").fingerprint()
    assert load_model(path, "cpu", "bf16", config=tiny_sd_folder).dtype == torch.bfloat16


def test_loading_prints_nothing(tiny_sd_folder, tmp_path, capfd):
    """Progress bars and log messages of the libraries, also of a text encoder whose file contains more weights."""
    path = write_checkpoint(tiny_sd_folder, tmp_path / "model.safetensors")
    folder = shutil.copytree(tiny_sd_folder, tmp_path / "sd")
    text = folder / "text_encoder/model.safetensors"
    save_file(load_file(text) | {"logit_scale": torch.zeros(1)}, text, {"format": "pt"})
    capfd.readouterr()
    load_model(path, "cpu", config=tiny_sd_folder)
    load_model(folder, "cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("channels", [9, 8])
def test_single_file_determines_the_number_of_input_channels(tiny_sd_folder, tmp_path, channels):
    folder = tiny.tiny_inpainting(tmp_path / "folder", channels=channels)
    path = write_checkpoint(folder, tmp_path / "model.safetensors")
    single = load_model(path, "cpu", config=tiny_sd_folder)
    assert single.map_channels == channels - 4
    assert single.fingerprint() == load_model(folder, "cpu").fingerprint()


def test_single_file_without_text_model_prefix_is_the_same_model(tiny_sd_folder, tmp_path):
    path = write_checkpoint(tiny_sd_folder, tmp_path / "model.safetensors")
    weights = {name.replace("transformer.text_model.", "transformer."): w for name, w in load_file(path).items()}
    save_file(weights, path)
    assert not any("text_model" in name for name in weights)
    whole = load_model(tiny_sd_folder, "cpu").fingerprint()
    assert load_model(path, "cpu", config=tiny_sd_folder).fingerprint() == whole
    del weights["cond_stage_model.transformer.final_layer_norm.weight"]
    save_file(weights, path)
    with pytest.raises(BadInput, match="its text encoder is missing or incomplete"):
        load_model(path, "cpu", config=tiny_sd_folder)


def test_pixel_networks_can_take_additional_maps(tmp_path):
    folder = tiny.tiny_ddpm(tmp_path / "m", in_channels=6, out_channels=3)
    model = load_model(folder, "cpu")
    assert (model.latent_channels, model.map_channels) == (3, 3)
    x = torch.zeros(1, 3, 16, 16)
    expected = model.unet(torch.cat([x, x + 1], 1), 3).sample
    assert torch.equal(model.predict(x, 3, model.condition(maps=x + 1)), expected)


def test_cross_attention_with_several_token_widths_is_rejected(tmp_path):
    folder = tiny.tiny_class_latent(tmp_path / "m", cross_attention=True, cross_attention_dim=(16, 24))
    with pytest.raises(BadInput, match="tokens of different widths"):
        load_model(folder, "cpu")


def test_single_file_needs_a_matching_config(tiny_sd_folder, tiny_folder, tmp_path):
    path = write_checkpoint(tiny_sd_folder, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"not of the architecture of Stable Diffusion.*give --config"):
        load_model(path)
    with pytest.raises(BadInput, match="does not fit"):
        load_model(path, config=tiny_folder("sdxl"))
    with pytest.raises(BadInput, match=r"model_index\.json"):
        load_model(path, config=tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match="cut short, 1,000 of at least"):
        load_model(path, config=tiny_sd_folder)


@pytest.mark.parametrize("name", ["a.ckpt", "a.bin", "a.pt", "a.pth"])
def test_pickle_files_are_rejected(name, tmp_path):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(BadInput, match=r"convert it to \.safetensors"):
        load_model(tmp_path / name)


def test_a_folder_of_pickled_weights_is_refused(copy):
    folder = copy()
    (folder / "unet/diffusion_pytorch_model.safetensors").rename(folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pickled weights.*convert"):
        load_model(folder)


def test_folder_of_older_library_versions_is_the_same_model(copy, tiny_sd_folder):
    folder = copy()
    text = folder / "text_encoder/model.safetensors"
    weights = {f"text_model.{name}": weight for name, weight in load_file(text).items()}
    save_file(weights | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, text, {"format": "pt"})
    table = json.loads((folder / "tokenizer/tokenizer.json").read_text())["model"]
    (folder / "tokenizer/tokenizer.json").unlink()
    (folder / "tokenizer/vocab.json").write_text(json.dumps(table["vocab"]))
    merges = [" ".join(merge) for merge in table["merges"]]
    (folder / "tokenizer/merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "scheduler/scheduler_config.json").unlink()
    settings = tiny.STABLE_DIFFUSION_BETAS | {"skip_prk_steps": True}
    del settings["clip_sample"]
    PNDMScheduler(**settings).save_pretrained(folder / "scheduler")
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit_json(folder / "model_index.json", safety_checker=checker)
    old, new = load_model(folder, "cpu"), load_model(tiny_sd_folder, "cpu")
    assert old.fingerprint() == new.fingerprint()
    assert torch.equal(old.condition("a red apple, noto zebra").tokens, new.condition("a red apple, noto zebra").tokens)
    assert old.schedule.timesteps(7) == new.schedule.timesteps(7)


def test_half_precision_files_are_converted_to_float32(copy):
    folder = copy()
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    halved = {name: weight.half() for name, weight in load_file(weights).items()}
    save_file(halved, folder / "unet/diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    weights.unlink()
    model = load_model(folder, "cpu")
    assert model.dtype == torch.float32
    assert torch.equal(model.unet.conv_in.weight, halved["conv_in.weight"].float())


def test_an_unconditional_latent_pipeline_loads(copy):
    folder = copy()
    network = tiny.tiny_ddpm(folder / "ddpm", sample_size=8, in_channels=4, out_channels=4)
    shutil.rmtree(folder / "unet")
    shutil.move(network / "unet", folder / "unet")
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(folder / part)
    (folder / "vae").rename(folder / "vqvae")
    index = {
        "_class_name": "LDMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "vqvae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    model = load_model(folder, "cpu")
    assert (model.factor, model.latent_channels, model.takes_text) == (4, 4, False)
    assert model.predict(torch.zeros(1, 4, 8, 8), 3, model.condition()).shape == (1, 4, 8, 8)


@pytest.mark.parametrize(
    ("unet", "message"),
    [
        ({"out_channels": 8}, "predicts the variance"),
        ({"out_channels": 3}, "returns 3 channels"),
        ({"in_channels": 3}, "takes 3 channels, but a latent has 4"),
        ({"time_cond_proj_dim": 8}, "guidance scale as an input"),
        ({"cross_attention_dim": 24}, "tokens of width 24"),
        ({"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 16}, "projects the condition"),
    ],
)
def test_unsupported_networks_are_rejected(unet, message, tmp_path):
    folder = tiny.tiny_sd(tmp_path / "m", **unet)
    with pytest.raises(BadInput, match=message):
        load_model(folder, "cpu")


def test_learned_variance_and_flow_schedules_are_refused(copy):
    folder = copy("ddpm")
    DDPMScheduler(variance_type="learned_range").save_pretrained(folder / "scheduler")
    with pytest.raises(BadInput, match="learned variance"):
        load_model(folder, "cpu")
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    edit_json(folder / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    with pytest.raises(BadInput, match="not a schedule of betas"):
        load_model(folder, "cpu")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"_class_name": "FluxPipeline", "transformer": ["diffusers", "Flux2DModel"]}, "FluxPipeline.*transformer"),
        ({"controlnet": ["diffusers", "ControlNetModel"]}, "controlnet"),
        ({"unet": ["diffusers", "UNet3DConditionModel"]}, "UNet3DConditionModel"),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, "T5EncoderModel"),
        ({"unet": [None, None]}, "no U-Net"),
        ({"scheduler": ["diffusers", "NoScheduler"]}, "no scheduler NoScheduler"),
        ({"text_encoder": [None, None]}, "has a tokenizer and no text encoder"),
    ],
)  # fmt: skip
def test_unsupported_pipelines_are_rejected_by_name(copy, index, message):
    folder = copy()
    edit_json(folder / "model_index.json", **index)
    with pytest.raises(BadInput, match=message):
        load_model(folder, "cpu")


def test_damaged_folder_error_names_the_part(copy):
    folder = copy()
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:500])
    with pytest.raises(BadInput, match="vae"):
        load_model(folder, "cpu")
    weights.write_bytes(whole)
    for part in ("text_encoder/model", "unet/diffusion_pytorch_model"):
        path = folder / f"{part}.safetensors"
        complete = load_file(path)
        save_file(dict(list(complete.items())[1:]), path, {"format": "pt"})
        with pytest.raises(BadInput, match=part.split("/")[0]):
            load_model(folder, "cpu")
        save_file(complete, path, {"format": "pt"})
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(BadInput, match="lacks its part tokenizer"):
        load_model(folder, "cpu")
    (folder / "model_index.json").write_text("{")
    with pytest.raises(BadInput, match=r"model_index\.json is not .*JSON"):
        load_model(folder, "cpu")


def test_invalid_models_are_rejected(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for given, message in [
        (tmp_path, r"no model_index\.json"),
        (tmp_path / "notes.txt", "neither"),
        ("no-such-model", "There is no model no-such-model"),
        (tmp_path / "gone", "There is no model"),
        (tmp_path / "gone.safetensors", "There is no file"),
        ("nobody-here/no-such-model", "check the name"),
    ]:
        with pytest.raises(BadInput, match=message):
            load_model(given, "cpu")


def test_hub_downloads_only_safetensors_of_valid_names(tiny_sd_folder, tmp_path, monkeypatch):
    asked = []

    def snapshot_download(hub_id, **how):
        asked.append((hub_id, how["allow_patterns"]))
        return str(tiny_sd_folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    assert load_model("some-org/some-model", "cpu").name == "some-org/some-model"
    assert [hub_id for hub_id, _ in asked] == ["some-org/some-model"]
    assert not any(pattern.endswith((".bin", ".ckpt", "*", ".py")) for pattern in asked[0][1])
    (tmp_path / "some-org").mkdir()
    shutil.copytree(tiny_sd_folder, tmp_path / "some-org/some-model")
    load_model("some-org/some-model", "cpu")
    for name in ("./a/b", "a/b/c", "../a", "name"):
        with pytest.raises(BadInput, match="There is no model"):
            load_model(name, "cpu")
    assert len(asked) == 1


def test_config_is_for_single_files(tiny_sd_folder):
    with pytest.raises(BadInput, match=r"single \.safetensors"):
        load_model(tiny_sd_folder, config=tiny_sd_folder)


def test_bundled_models_are_loaded_by_name_with_settings(tmp_path, monkeypatch):
    folder = tiny.tiny_sd(tmp_path / "toy")
    (folder / "sfumato.json").write_text(json.dumps({"summary": "a toy", "edit": {"steps": 30}}))
    (tmp_path / "no-model").mkdir()
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path)
    assert [(model.name, model.summary) for model in list_models()] == [("toy", "a toy")]
    assert bundled_path("toy") == folder
    assert load_model("toy", "cpu").settings["edit"] == {"steps": 30}
    with pytest.raises(BadInput, match="the bundled models are: toy"):
        bundled_path("emoji")
    for wrong in ("{", "[1]"):
        (folder / "sfumato.json").write_text(wrong)
        with pytest.raises(BadInput, match=r"sfumato\.json"):
            load_model(folder, "cpu")


def test_model_without_settings_file_has_empty_settings(tiny_sd_folder):
    assert load_model(tiny_sd_folder, "cpu").settings == {}


def test_devices_and_dtypes_are_selected_by_name():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device() == pick_device("auto")
    assert pick_dtype("auto") == pick_dtype(None) == pick_dtype("fp32") == torch.float32
    assert pick_dtype(torch.float16) == torch.float16
    for device in ("gpu", "cuda:99", "cuda:01", "cuda:256", "cpu:7", "meta"):
        with pytest.raises(BadInput, match="auto"):
            pick_device(device)
    for dtype in ("int8", torch.float64, "half"):
        with pytest.raises(BadInput, match="use auto, fp32"):
            pick_dtype(dtype)
