"""Models of third parties: unusual ones load, broken ones are rejected."""

import json
import shutil
from fnmatch import fnmatch

import diffusers
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from sfumato import hub
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.schedules import schedule_from_config
from sfumato.vocabulary import vocabulary_problem
from tests import tiny
from tests.models.original_layout import write_checkpoint

pytestmark = pytest.mark.usefixtures("read_every_time")


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return lambda layout="sd": shutil.copytree(tiny_folder(layout), tmp_path / layout)


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_tokenizer_without_its_vocabulary_is_refused(copy):
    folder = copy()
    (folder / "tokenizer/tokenizer.json").unlink()
    assert len(CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)) == 2
    with pytest.raises(BadInput, match=r"has 2 tokens.*vocab\.json"):
        load_model(folder, "cpu")


def test_added_tokens_need_embeddings_of_the_text_encoder(copy):
    folder = copy()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    tokenizer.add_tokens(["<toy>"])
    tokenizer.save_pretrained(folder / "tokenizer")
    with pytest.raises(BadInput, match=r'"<toy>" the id 553'):
        load_model(folder, "cpu")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True)
    encoder.resize_token_embeddings(len(tokenizer))
    encoder.save_pretrained(folder / "text_encoder")
    assert load_model(folder, "cpu").condition("a <toy> apple").prompts[0].has("<toy>")
    assert not vocabulary_problem(tokenizer, 576), "an embedding padded to a multiple of 64"


def test_a_text_encoder_without_a_tokenizer_is_refused(copy):
    folder = copy()
    edit_json(folder / "model_index.json", tokenizer=[None, None])
    with pytest.raises(BadInput, match="has a text_encoder and no tokenizer"):
        load_model(folder, "cpu")


@pytest.mark.parametrize("kind", ["sigmoid", "laplace"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_betas_supported_by_one_scheduler_class_are_used(copy, kind, rescaled):
    folder = copy("ddpm")
    scheduler = diffusers.DDPMScheduler(beta_schedule=kind, rescale_betas_zero_snr=rescaled)
    scheduler.save_pretrained(folder / "scheduler")
    schedule = load_model(folder, "cpu").schedule
    assert torch.equal(schedule.alphas_cumprod, scheduler.alphas_cumprod.double())
    with pytest.raises(BadInput, match=f"PNDMScheduler has no beta_schedule '{kind}'"):
        schedule_from_config({"_class_name": "PNDMScheduler", "beta_schedule": kind})


def test_unknown_timestep_spacing_is_rejected(copy):
    folder = copy()
    edit_json(folder / "scheduler/scheduler_config.json", timestep_spacing="cosine")
    with pytest.raises(BadInput, match=r"'cosine'.*leading, trailing, linspace"):
        load_model(folder, "cpu")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scaling_factor": None}, "scaling_factor must be a number above 0, not None"),
        ({"latents_mean": [0.0, 0.0]}, "latents_mean must be 4 numbers"),
        ({"latents_std": 1.0}, "latents_std must be 4 numbers"),
    ],
)
def test_invalid_latent_scaling_is_rejected(copy, config, message):
    folder = copy()
    edit_json(folder / "vae/config.json", **config)
    with pytest.raises(BadInput, match=message):
        load_model(folder, "cpu")


def test_networks_for_grey_images_are_rejected(tmp_path):
    folder = tiny.tiny_ddpm(tmp_path / "grey", in_channels=1, out_channels=1)
    with pytest.raises(BadInput, match="images of 1 channels, not on RGB"):
        load_model(folder, "cpu")


PREFIXES = {
    "U-Net": "model.diffusion_model.",
    "autoencoder": "first_stage_model.",
    "text encoder": "cond_stage_model.",
}


@pytest.mark.parametrize("part", PREFIXES)
@pytest.mark.parametrize("gap", ["one weight", "all weights"])
def test_incomplete_single_file_error_names_the_part(tiny_sd_folder, tmp_path, part, gap):
    path = write_checkpoint(tiny_sd_folder, tmp_path / "model.safetensors")
    weights = load_file(path)
    names = [name for name in weights if name.startswith(PREFIXES[part])]
    lost = names if gap == "all weights" else names[len(names) // 2 :][:1]
    save_file({name: weight for name, weight in weights.items() if name not in lost}, path)
    with pytest.raises(BadInput, match=rf"(?:its|whose) {part} is missing"):
        load_model(path, "cpu", config=tiny_sd_folder)


def test_single_file_with_only_the_unet_is_rejected(tiny_sd_folder, tmp_path):
    path = write_checkpoint(tiny_sd_folder, tmp_path / "model.safetensors")
    network = {name: weight for name, weight in load_file(path).items() if name.startswith(PREFIXES["U-Net"])}
    save_file(network, path)
    with pytest.raises(
        BadInput, match="a U-Net without autoencoder and text encoders: give a checkpoint of the complete model"
    ):
        load_model(path, "cpu", config=tiny_sd_folder)


def halve(folder, shards):
    """Rewrite U-Net and text encoder as half-precision variants, in several files each."""
    for part, kind in (("unet", UNet2DConditionModel), ("text_encoder", CLIPTextModel)):
        network = kind.from_pretrained(folder / part, local_files_only=True)
        for file in (folder / part).glob("*.safetensors"):
            file.unlink()
        network.half().save_pretrained(folder / part, variant="fp16", max_shard_size=shards)


@pytest.mark.parametrize(("shards", "files"), [("20KB", 3), ("1GB", 1)])
def test_sharded_half_precision_weights_are_found(copy, shards, files):
    folder = copy()
    whole = load_model(folder, "cpu")
    halve(folder, shards)
    assert len(list((folder / "text_encoder").glob("*.safetensors"))) >= min(files, 2)
    model = load_model(folder, "cpu")
    assert torch.equal(model.unet.conv_in.weight, whole.unet.conv_in.weight.half().float())
    ours, theirs = (each.text_encoders[0].encoder.state_dict() for each in (model, whole))
    assert all(torch.equal(ours[name], theirs[name].half().float()) for name in ours)


@pytest.mark.parametrize("shards", ["20KB", "1GB"])
def test_hub_downloads_half_precision_only_without_full_precision(copy, tmp_path, monkeypatch, shards):
    """The hub is replaced by a function that applies the file patterns in the same way."""
    online, local = copy(), tmp_path / "cache"
    halve(online, shards)
    for name in ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"):
        shutil.copy(online / "vae/diffusion_pytorch_model.safetensors", online / "vae" / name)
    (online / "unet/diffusion_pytorch_model.fp16.bin").write_bytes(b"a pickle")

    def snapshot_download(hub_id, allow_patterns, ignore_patterns):
        for path in filter(lambda path: path.is_file(), online.rglob("*")):
            name = path.relative_to(online).as_posix()
            refused = any(fnmatch(name, pattern) for pattern in ignore_patterns)
            if any(fnmatch(name, pattern) for pattern in allow_patterns) and not refused:
                (local / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, local / name)
        return str(local)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert load_model("some-org/some-model", "cpu").name == "some-org/some-model"
    assert [path.name for path in (local / "vae").glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]
    assert not [*local.rglob("*.bin")]


@pytest.mark.parametrize(("height", "width", "near"), [(32, 33, "40 x 32"), (0, 32, "32 x 8"), (7, 17, "24 x 8")])
def test_invalid_size_error_suggests_the_next_valid_size(tiny_sd_folder, height, width, near):
    model = load_model(tiny_sd_folder, "cpu")
    with pytest.raises(BadInput, match=f"multiples of 8 .* not {width} x {height}; the next size is {near}"):
        model.latent_shape(height, width)
    assert model.latent_shape(*(int(side) for side in reversed(near.split(" x "))))
