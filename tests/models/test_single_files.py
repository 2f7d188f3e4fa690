"""Single-file checkpoints: schedules stated in the file, and rejection of files that are not complete models."""

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from safetensors.torch import load_file, save_file

from sfumato.core.loop import reverse
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from tests.models.original_layout import write_checkpoint

ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}


@pytest.fixture(scope="module")
def checkpoint(tiny_sd_folder, tmp_path_factory):
    return write_checkpoint(tiny_sd_folder, tmp_path_factory.mktemp("single") / "plain.safetensors")


@pytest.fixture
def marked(checkpoint, tmp_path):
    """The checkpoint with additional tensors and metadata."""

    def mark(*names, **about):
        path = tmp_path / "marked.safetensors"
        save_file(load_file(checkpoint) | {name: torch.zeros(0) for name in names}, path, metadata=about or None)
        return path

    return mark


@pytest.fixture
def folder_of(tiny_sd_folder, tmp_path):
    """The model's folder with another scheduler."""

    def with_scheduler(scheduler):
        folder = shutil.copytree(tiny_sd_folder, tmp_path / "folder", dirs_exist_ok=True)
        scheduler.save_pretrained(folder / "scheduler")
        index = json.loads((folder / "model_index.json").read_text())
        index["scheduler"] = ["diffusers", type(scheduler).__name__]
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder

    return with_scheduler


@pytest.mark.parametrize(
    ("names", "about", "expected"),
    [
        (("v_pred",), {}, {"prediction_type": "v_prediction"}),
        (("v_pred", "ztsnr"), {}, ZERO),
        ((), {"modelspec.prediction_type": "v"}, {"prediction_type": "v_prediction"}),
        ((), {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, ZERO),
        ((), {"ss_v_parameterization": "False", "modelspec.prediction_type": "epsilon"}, {}),
        ((), {"modelspec.title": "v_pred"}, {}),
    ],
)
@pytest.mark.parametrize("scheduler", [DDIMScheduler, PNDMScheduler])
def test_schedule_of_the_file_takes_precedence(tiny_sd_folder, marked, folder_of, names, about, expected, scheduler):
    config = json.loads((tiny_sd_folder / "scheduler" / "scheduler_config.json").read_text())
    betas = {name: config[name] for name in ("beta_start", "beta_end", "beta_schedule")}
    folder = folder_of(scheduler(**betas, steps_offset=1))
    found = load_model(marked(*names, **about), "cpu", config=folder).schedule
    plain = load_model(folder, "cpu").schedule
    assert found.prediction_type == expected.get("prediction_type", "epsilon")
    assert found.spacing == expected.get("timestep_spacing", plain.spacing)
    assert (found.steps_offset, found.final_alpha_cumprod) == (plain.steps_offset, plain.final_alpha_cumprod)
    theirs = DDIMScheduler(**betas, rescale_betas_zero_snr="rescale_betas_zero_snr" in expected)
    assert torch.equal(found.alphas_cumprod[:-1], theirs.alphas_cumprod[:-1].double())


def test_epsilon_prediction_of_the_file_overrides_the_folder(marked, folder_of):
    folder = folder_of(DDIMScheduler(prediction_type="v_prediction"))
    about = {"modelspec.prediction_type": "epsilon"}
    assert load_model(marked(**about), "cpu", config=folder).schedule.prediction_type == "epsilon"
    assert load_model(marked(), "cpu", config=folder).schedule.prediction_type == "v_prediction"


@torch.no_grad()
def test_zero_terminal_snr_run_matches_diffusers(marked, tiny_sd_folder):
    model = load_model(marked("v_pred", "ztsnr"), "cpu", config=tiny_sd_folder)
    settings = json.loads((tiny_sd_folder / "scheduler" / "scheduler_config.json").read_text())
    theirs = DDIMScheduler.from_config(settings | ZERO)
    theirs.set_timesteps(10)
    timesteps = model.schedule.timesteps(10)
    assert timesteps == theirs.timesteps.tolist()
    assert timesteps[0] == 999
    condition, x = model.condition(["red apple"]), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    *_, last = reverse(model, x, timesteps, condition, eta=0.0, noise_maps=lambda state: None)
    for t in timesteps:
        v = model.unet(x, t, encoder_hidden_states=condition.tokens).sample
        x = theirs.step(v, t, x).prev_sample
    assert (last.x_prev - x).abs().max() <= 1e-4 * x.abs().max()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",), "a LoRA.*--lora"),
        (("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",), "a LoRA"),
        (("lora_te_text_model_encoder_layers_0_mlp_fc1.hada_w1_a",), "a LoRA"),
        (("emb_params",), "a textual inversion"),
        (("clip_g", "clip_l"), "a textual inversion"),
        (("<cat-toy>",), "a textual inversion"),
        (("control_model.input_hint_block.0.weight", "control_model.time_embed.0.weight"), "a ControlNet"),
        (("controlnet_cond_embedding.conv_in.weight",), "a ControlNet"),
        (("double_blocks.0.img_attn.proj.weight",), "a transformer model"),
        (("model.diffusion_model.joint_blocks.0.x_block.attn.proj.weight",), "a transformer model"),
        (("encoder.down.0.block.0.conv1.weight", "decoder.conv_in.weight"), "an autoencoder"),
        (("down_blocks.0.resnets.0.conv1.weight", "time_embedding.linear_1.weight"), "the U-Net of a diffusers folder"),
        (("first_stage_model.encoder.conv_in.weight", "first_stage_model.quant_conv.bias"), "an autoencoder"),
        (("text_model.encoder.layers.0.mlp.fc1.weight",), "a text encoder"),
        (("encoder.block.0.layer.0.SelfAttention.k.weight", "shared.weight"), "a text encoder"),
        (("input_blocks.0.0.weight", "time_embed.0.weight"), "a U-Net without"),
        (("model.diffusion_model.input_blocks.0.0.weight",), "a U-Net without"),
        (("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "an IP-Adapter, .* cannot be used"),
        (("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",), "a motion module, .* cannot be used"),
        (("linear_1.linear.weight", "hypernet"), "a hypernetwork, .* cannot be used"),
        (("768.0.linear.0.weight",), "a hypernetwork"),
        (("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), "an upscaler"),
        (("conv_first.weight", "body.0.rdb1.conv1.weight"), "an upscaler"),
        (
            ("layers.0.weight",),
            r"not a checkpoint of a Stable Diffusion, .* named model\.diffusion_model\.\*: give a",
        ),
        ((), "a safetensors file without weights"),
    ],
)
def test_files_of_other_kinds_are_rejected_by_kind(names, says, tiny_sd_folder, tmp_path):
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "file.safetensors")
    for config in (None, tiny_sd_folder):
        with pytest.raises(BadInput, match=rf"file\.safetensors is {says}"):
            load_model(tmp_path / "file.safetensors", "cpu", config=config)


def test_lora_weights_beside_a_complete_model_are_refused(marked, tiny_sd_folder):
    path = marked("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight")
    for config in (None, tiny_sd_folder):
        with pytest.raises(
            BadInput, match=r"a complete model with weights of a LoRA beside it \(lora_unet_mid_.*: fuse"
        ):
            load_model(path, "cpu", config=config)


def test_noise_levels_of_edm_are_refused(marked, tiny_sd_folder):
    with pytest.raises(BadInput, match="noise levels of EDM"):
        load_model(marked("edm_vpred.sigma_max"), "cpu", config=tiny_sd_folder)
