"""Model folders and checkpoints whose configuration contradicts their weights are refused in one sentence."""

import json
import re
import shutil

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from sfumato.errors import BadInput
from sfumato.models.load import load_model
from tests import tiny
from tests.models.original_layout import write_checkpoint

pytestmark = pytest.mark.usefixtures("read_every_time")

TOKENS = len(tiny.tiny_tokenizer())
KEYS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
#: Part, changed settings, and a tensor with its shapes in the configuration and the file.
OTHER_SHAPES = {
    "output of the U-Net": ("unet", {"out_channels": 8}, "conv_out.weight", [8, 8, 3, 3], [4, 8, 3, 3]),
    "width of the U-Net": ("unet", {"block_out_channels": [16, 32]}, "conv_in.weight", [16, 4, 3, 3], [8, 4, 3, 3]),
    "width of the tokens": ("unet", {"cross_attention_dim": 24}, KEYS, [8, 24], [8, 16]),
    "latent": ("vae", {"latent_channels": 8}, "encoder.conv_out.weight", [16, 8, 3, 3], [8, 8, 3, 3]),
    "vocabulary": (
        "text_encoder",
        {"vocab_size": TOKENS + 7},
        "embeddings.token_embedding.weight",
        [TOKENS + 7, 16],
        [TOKENS, 16],
    ),
    "text encoder": ("text_encoder", {"intermediate_size": 48}, "encoder.layers.0.mlp.fc1.weight", [48, 16], [32, 16]),
}  # fmt: skip
TWO_LEVELS = {"block_out_channels": [8, 8]}
TWO_BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
#: Part, changed settings, and a part of the name of a weight that the configuration does not describe.
FEWER = {
    "U-Net": ("unet", {"layers_per_block": 1}, r"blocks\.\d"),
    "autoencoder": ("vae", TWO_LEVELS | TWO_BLOCKS, r"coder\.(?:up|down)_blocks\."),
    "text encoder": ("text_encoder", {"num_hidden_layers": 1}, r"encoder\.layers\.1\."),
}
#: Part, changed settings from which no network can be built, and the reason in the message.
IMPOSSIBLE = {
    "heads": ("text_encoder", {"hidden_size": 15}, "The hidden size .15. is not a multiple"),
    "levels of the autoencoder": ("vae", TWO_LEVELS, "its settings contradict one another"),
    "levels of the U-Net": (
        "unet",
        {"block_out_channels": [8]},
        "Must provide the same number of `block_out_channels`",
    ),
}
LIBRARIES = re.compile("Cannot load|ignore_mismatched|low_cpu_mem|Class validation|out of range|Error")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with two layers per block of the U-Net and levels of equal width, and the same model in one file."""
    root = tmp_path_factory.mktemp("whole")
    folder = tiny.tiny_sd(root / "sd", layers_per_block=2)
    with tiny.seeded(1):
        settings = dict(tiny.tiny_vae().config) | {"block_out_channels": (8, 8, 8)}
        AutoencoderKL.from_config(settings).save_pretrained(folder / "vae")
    return folder, write_checkpoint(folder, root / "one.safetensors")


@pytest.fixture(params=["folder", "single file"])
def refused(request, whole, tmp_path):
    """Changes settings of a part of the folder, loads the model, and returns the message of its refusal."""

    def load(part, settings):
        folder, path = shutil.copytree(whole[0], tmp_path / "changed"), whole[1]
        config = folder / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | settings))
        given = (folder, None) if request.param == "folder" else (path, folder)
        with pytest.raises(BadInput) as error:
            load_model(given[0], "cpu", config=given[1])
        said = str(error.value)
        assert f"{part}/config.json" in said
        assert not LIBRARIES.search(said)
        return said

    return load


def test_the_unchanged_model_is_loaded(whole):
    folder, path = whole
    assert load_model(path, "cpu", config=folder).fingerprint() == load_model(folder, "cpu").fingerprint()


@pytest.mark.parametrize("name", OTHER_SHAPES)
def test_other_shapes_are_refused_with_the_tensor_and_both_shapes(name, refused):
    part, settings, tensor, ours, theirs = OTHER_SHAPES[name]
    expected = f"{tensor} has the shape {ours} in the configuration and {theirs} in the file; "
    assert expected in refused(part, settings)


@pytest.mark.parametrize("name", FEWER)
def test_weights_that_the_configuration_does_not_describe_are_refused(name, refused):
    part, settings, weight = FEWER[name]
    said = refused(part, settings)
    assert re.search(rf"has the shape|the configuration lacks \d+ weights, such as [\w.]*{weight}", said)


@pytest.mark.parametrize("settings", [{}, {"_class_name": "DDIMScheduler", "solver_order": 2}])
def test_scheduler_without_settings_is_refused(whole, tmp_path, settings):
    folder, path = shutil.copytree(whole[0], tmp_path / "bare"), whole[1]
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(settings))
    for given, config in ((folder, None), (path, folder)):
        with pytest.raises(BadInput, match=r"scheduler_config\.json has no settings of a DDIMScheduler"):
            load_model(given, "cpu", config=config)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_settings_of_no_network_are_refused(name, refused):
    part, settings, reason = IMPOSSIBLE[name]
    assert re.search(rf"not a valid configuration of the class \w+ \({reason}", refused(part, settings))


def test_class_embedding_of_a_single_file_without_a_setting_is_refused(whole, tmp_path):
    """As in Stable Diffusion's upscaler, whose other weights are those of Stable Diffusion 2."""
    folder, path = whole
    labels = {"model.diffusion_model.label_emb.weight": torch.zeros(5, 32)}
    save_file(load_file(path) | labels, tmp_path / "upscaler.safetensors")
    with pytest.raises(BadInput, match=r"the configuration lacks the weight model\.diffusion_model\.label_emb\.weight"):
        load_model(tmp_path / "upscaler.safetensors", "cpu", config=folder)


def test_names_of_older_versions_and_unused_parts_are_accepted(whole, tmp_path):
    """Attention layers of autoencoders had other names; files of text encoders may contain more of a CLIP."""
    folder = shutil.copytree(whole[0], tmp_path / "old")
    vae, text = folder / "vae/diffusion_pytorch_model.safetensors", folder / "text_encoder/model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, weight in load_file(vae).items():
        module, _, kind = name.rpartition(".")
        found = next((new for new in names if ".attentions." in name and module.endswith(f".{new}")), None)
        old[name if found is None else f"{module.removesuffix(found)}{names[found]}.{kind}"] = weight
    assert sum("query" in name for name in old) == 4
    save_file(old, vae, {"format": "pt"})
    more = {"text_projection.weight": torch.zeros(16, 16), "logit_scale": torch.zeros(1)}
    more |= {"vision_model.embeddings.class_embedding": torch.zeros(16)}
    save_file(load_file(text) | more, text, {"format": "pt"})
    assert load_model(folder, "cpu").fingerprint() == load_model(whole[0], "cpu").fingerprint()
