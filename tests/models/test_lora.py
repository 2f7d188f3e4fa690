"""`lora=` fuses a LoRA as diffusers' load_lora_weights and fuse_lora do, to 1e-5, from all formats."""

import json
import os

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import nn

import sfumato
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.lora import fuse
from sfumato.models.lora_files import read_loras
from sfumato.models.original_names import original_name
from sfumato.models.pipelines import from_pipeline
from tests import tiny
from tests.models.lora_made import write_lora
from tests.models.test_from_pipe import sampled

START = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pipe_of(tiny_folder):
    return lambda layout: DiffusionPipeline.from_pretrained(tiny_folder(layout), local_files_only=True)


@pytest.mark.parametrize("style", ["kohya", "peft", "diffusers"])
@pytest.mark.parametrize("layout", ["sd", "sd2", "sdxl"])
def test_a_run_equals_that_of_the_fused_pipeline(layout, style, pipe_of, tiny_folder, tmp_path):
    pipe, plain = pipe_of(layout), load_model(tiny_folder(layout), "cpu")
    path = write_lora(pipe, tmp_path / "a.safetensors", style)
    ours = load_model(tiny_folder(layout), "cpu", lora=f"{path}:0.6")
    theirs = fused(pipe, path, 0.6)
    assert not torch.equal(ours.condition("red").tokens, plain.condition("red").tokens)
    expected = sampled(theirs, ["red apple"], START)
    assert (expected - sampled(plain, ["red apple"], START)).abs().max() > 1e-2
    torch.testing.assert_close(sampled(ours, ["red apple"], START), expected, atol=1e-5, rtol=1e-5)


def fused(pipe, path, scale):
    pipe.load_lora_weights(str(path), adapter_name="a")
    pipe.fuse_lora(lora_scale=scale)
    return from_pipeline(pipe)


@pytest.mark.parametrize("layout", ["sd", "sdxl"])
def test_an_edit_equals_that_of_the_fused_pipeline(layout, pipe_of, tiny_folder, tmp_path):
    pipe = pipe_of(layout)
    path = write_lora(pipe, tmp_path / "a.safetensors", "kohya")
    fused(pipe, path, 0.6)
    edits = []
    for model in (sfumato.load(tiny_folder(layout), "cpu", lora=f"{path}:0.6"), sfumato.Model.from_pipe(pipe)):
        inverted = model.invert(tiny.tiny_image(), "red apple", steps=3, source_guidance_scale=1.0)
        edits.append([step.state.x_prev for step in inverted.edit_steps("blue cat", guidance_scale=3.0, skip=0)][-1])
    torch.testing.assert_close(edits[0], edits[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", ["sd", "sdxl"])
def test_original_names_are_those_of_checkpoints(layout, tiny_folder):
    """Compared with the independent table of original_layout.py, which writes complete checkpoints."""
    from tests.models.original_layout import _unet_modules

    unet = load_model(tiny_folder(layout), "cpu").unet
    table = _unet_modules(unet)
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            old = max((old for old in table if name == old or name.startswith(f"{old}.")), key=len)
            assert original_name(unet, name) == table[old] + name.removeprefix(old)


def test_original_layer_names_of_sdxl_loras_are_supported(pipe_of, tiny_sdxl_folder, tmp_path):
    pipe = pipe_of("sdxl")
    plain = write_lora(pipe, tmp_path / "a.safetensors", "kohya")
    other = write_lora(pipe, tmp_path / "b.safetensors", "kohya", names=original_name)
    assert any("input_blocks" in name for name in load_file(other))
    models = [load_model(tiny_sdxl_folder, "cpu", lora=path) for path in (plain, other)]
    assert models[0].fingerprint() == models[1].fingerprint()


@pytest.mark.parametrize(
    "patterns",
    [
        {"attn2.to_k": 3},
        {r"attn\d.to_(k|v)": 3, "attn2.to_k": 5},
        {"tn2.to_k": 4, "attn2.to_k": 5, "to_k": 3},
        {"to_k": 2, r"^.*attn[12]\.to_[qk]": 3, "tn2.to_v": 4, r"(down|up)_blocks.+to_v?": 5, "to_out.0|mid.*": 6},
    ],
)
def test_alpha_from_metadata_matches_diffusers(pipe_of, tiny_sd_folder, tmp_path, patterns):
    pipe = pipe_of("sd")
    about = {"unet.lora_alpha": 6, "unet.r": 2, "unet.target_modules": ["to_q", "to_k", "to_v", "to_out.0"]}
    about |= {"unet.alpha_pattern": patterns}
    path = write_lora(pipe, tmp_path / "a.safetensors", "peft", parts=("unet",),
                      metadata={"lora_adapter_metadata": json.dumps(about)})  # fmt: skip
    weights = {n: w for n, w in load_file(path).items() if "attn" in n}
    save_file(weights, path, {"lora_adapter_metadata": json.dumps(about)})
    pipe.load_lora_weights(str(path))
    pipe.fuse_lora()
    ours, theirs = load_model(tiny_sd_folder, "cpu", lora=path), from_pipeline(pipe)
    expected = sampled(theirs, ["red apple"], START)
    torch.testing.assert_close(sampled(ours, ["red apple"], START), expected, atol=1e-5, rtol=1e-5)


def test_several_loras_are_added_and_recorded(pipe_of, tiny_sd_folder, tmp_path):
    pipe = pipe_of("sd")
    paths = [write_lora(pipe, tmp_path / f"{n}.safetensors", "kohya", seed=n) for n in range(2)]
    model = sfumato.load(tiny_sd_folder, "cpu", lora=[paths[0], (paths[1], -0.5)])
    one, other = (
        load_model(tiny_sd_folder, "cpu", lora=[(path, scale)]) for path, scale in zip(paths, (1.0, -0.5), strict=True)
    )
    base = load_model(tiny_sd_folder, "cpu")
    for name, weight in model.network.unet.state_dict().items():
        expected = sum(each.unet.state_dict()[name] for each in (one, other)) - base.unet.state_dict()[name]
        torch.testing.assert_close(weight, expected, atol=1e-6, rtol=1e-6)
    assert len({each.fingerprint() for each in (model.network, one, other, base)}) == 4
    recipe = model.generate("red apple", steps=1).recipes[0]
    assert [(each["name"], each["scale"]) for each in recipe["lora"]] == [
        ("0.safetensors", 1.0),
        ("1.safetensors", -0.5),
    ]


def test_a_lora_for_another_model_is_refused(pipe_of, tiny_sd_folder, tiny_sdxl_folder, tmp_path):
    path = write_lora(pipe_of("sdxl"), tmp_path / "xl.safetensors", "kohya")
    with pytest.raises(BadInput, match=r"xl\.safetensors is a LoRA for another kind of model"):
        load_model(tiny_sd_folder, "cpu", lora=path)
    wide = tiny.tiny_sd(tmp_path / "wide", cross_attention_dim=16, block_out_channels=(16, 16))
    path = write_lora(pipe_of("sd"), tmp_path / "sd.safetensors", "peft", parts=("unet",))
    with pytest.raises(BadInput, match=r"another kind of model: its layer .* is 8 x \d+, that of .* 16 x"):
        load_model(wide, "cpu", lora=path)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["lora_unet_conv_in.hada_w1_a"], "is a LoHa, which is not supported"),
        (["lora_unet_conv_in.lokr_w1"], "is a LoKr"),
        (["unet.conv_in.lora_A.weight", "unet.conv_in.lora_B.weight", "unet.conv_in.dora_scale"], "is a DoRA"),
        (["lora_unet_conv_in.lora_down.weight"], "is incomplete: 'lora_unet_conv_in' lacks one of its matrices"),
        (["model.diffusion_model.out.0.weight"], "is not a LoRA: it contains"),
    ],
)
def test_unsupported_lora_files_are_rejected(names, says, tiny_sd_folder, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({name: torch.zeros(1, 1) for name in names}, path)
    with pytest.raises(BadInput, match=says):
        load_model(tiny_sd_folder, "cpu", lora=path)


def test_original_names_are_ignored_if_both_are_present(pipe_of, tiny_sdxl_folder, tmp_path):
    """As in diffusers."""
    pipe = pipe_of("sdxl")
    plain = write_lora(pipe, tmp_path / "a.safetensors", "kohya")
    both = write_lora(pipe, tmp_path / "b.safetensors", "kohya", names=original_name, seed=1)
    theirs, name = load_file(plain), "lora_unet_input_blocks"
    assert any(each.startswith(name) for each in load_file(both))
    save_file({n: w for n, w in load_file(both).items() if "blocks" in n or "block_" in n} | theirs, both)
    ours = [load_model(tiny_sdxl_folder, "cpu", lora=path) for path in (plain, both)]
    assert ours[0].fingerprint() == ours[1].fingerprint()
    expected = sampled(fused(pipe, both, 1.0), ["red apple"], START)
    torch.testing.assert_close(sampled(ours[1], ["red apple"], START), expected, atol=1e-5, rtol=1e-5)
    save_file({n: w for n, w in load_file(both).items() if "down_blocks" not in n}, both)
    with pytest.raises(
        BadInput, match=r"mixes the names of diffusers and of the original U-Net: .* original name only"
    ):
        load_model(tiny_sdxl_folder, "cpu", lora=both)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out{}.lora_A",
         "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0{}.lora_A"),
        ("unet.conv_in{}.lora_A", "lora_unet_conv_in{}.lora_down"),
        ("unet.conv_in{}.lora_A", "unet.conv_in{}.lora.down"),
        ("unet.conv_in{}.lora_A", "unet.conv_in{}.lora_A.default"),
        ("lora_unet_input_blocks_0_0{}.lora_down", "unet.input_blocks.0.0{}.lora_A"),
    ],
)  # fmt: skip
def test_a_layer_that_is_changed_twice_is_refused(first, second, tiny_sd_folder, tmp_path):
    model = load_model(tiny_sd_folder, "cpu")
    sizes = {"conv_in": (4, 8, (3, 3)), "input_blocks": (4, 8, (3, 3)), "to_out": (16, 16, ())}
    weights = {}
    for name in (first, second):
        ins, outs, kernel = next(size for part, size in sizes.items() if part in name)
        down = f"{name.format('')}.weight"
        up = down.replace("lora_A", "lora_B").replace("down.", "up.")
        weights |= {down: torch.ones(1, ins, *kernel), up: torch.ones(outs, 1, *(1 for _ in kernel))}
    path = tmp_path / "a.safetensors"
    save_file(weights, path)
    before = model.fingerprint()
    with pytest.raises(BadInput, match=r"changes a layer twice, as '.*' and as '|are the same"):
        fuse(model, *read_loras(path))
    assert model.fingerprint() == before


def test_lora_for_blocks_with_different_numbers_of_layers(tmp_path):
    folder = tiny.tiny_sd(tmp_path / "sd", layers_per_block=(1, 2))
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    path = write_lora(pipe, tmp_path / "a.safetensors", "kohya")
    ours = load_model(folder, "cpu", lora=path)
    expected = sampled(fused(pipe, path, 1.0), ["red apple"], START)
    torch.testing.assert_close(sampled(ours, ["red apple"], START), expected, atol=1e-5, rtol=1e-5)
    assert original_name(ours.unet, "mid_block.resnets.0.conv1") == "mid_block.resnets.0.conv1"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("none.safetensors", "There is no LoRA"),
        ("a.pt", "can run code"),
        (5, "must be a file"),
        ([("a", "x")], "finite number"),
    ],
)
def test_invalid_arguments_are_rejected(given, says, tiny_sd_folder):
    with pytest.raises(BadInput, match=says):
        load_model(tiny_sd_folder, "cpu", lora=given)


def test_invalid_weight_files_are_rejected(tiny_sd_folder, tmp_path):
    (tmp_path / "page.safetensors").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    nan = write_matrices(tmp_path / "nan.safetensors", torch.full((1, 1), torch.nan))
    uneven = write_matrices(tmp_path / "uneven.safetensors", torch.zeros(3, 1))
    says = {
        "page.safetensors": "is a web page",
        "folder.safetensors": "is a folder",
        "pipe.safetensors": "is not a regular file",
        nan: "do not fit or are not finite",
        uneven: "do not fit or are not finite",
    }
    for path, words in says.items():
        with pytest.raises(BadInput, match=words):
            load_model(tiny_sd_folder, "cpu", lora=tmp_path / path)


def write_matrices(path, down):
    save_file({"unet.conv_in.lora_A.weight": down, "unet.conv_in.lora_B.weight": torch.zeros(1, 1)}, path)
    return path
