"""Single-file checkpoints load without a folder: shipped configurations and tokenizers, and the choice between them."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

import sfumato.architectures as architectures
from sfumato.errors import BadInput
from sfumato.models.index import read_index
from sfumato.models.load import load_model
from sfumato.models.single_file import predicts_v
from sfumato.networks.clip_tokenizer import read_tokenizer
from tests import tiny
from tests.models.original_layout import write_checkpoint

#: Published numbers of parameters.
PARAMETERS = {
    "sd1": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
}
NAMES = [each.name for each in architectures.ARCHITECTURES]
CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
NARROW = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}


@pytest.mark.parametrize("name", NAMES)
def test_networks_have_published_parameter_counts(name):
    folder = architectures.FOLDER / name
    for part, count in PARAMETERS[name].items():
        config = json.loads((folder / part / "config.json").read_text())
        with torch.device("meta"):
            if part in CLASSES:
                network = CLASSES[part](**config)
            else:
                kind = getattr(transformers, config.pop("architectures")[0])
                network = kind(transformers.CLIPTextConfig(**config))
        assert sum(weight.numel() for weight in network.parameters()) == count, part


def test_tokenizer_gives_clip_token_ids():
    """The expected ids are those of the papers' repositories for these words."""
    for architecture in architectures.ARCHITECTURES:
        with architecture.staged() as folder:
            index = read_index(folder)
            for part, pad in architecture.pads.items():
                assert part in index.kinds
                tokenizer = read_tokenizer(folder / part, folder)
                ids = tokenizer("a photo of a cat", padding="max_length", max_length=9).input_ids
                padding = 49407 if pad == architectures.END else 0
                assert ids == [49406, 320, 1125, 539, 320, 2368, 49407, padding, padding]
                assert len(tokenizer) == 49408
        assert not folder.exists()


def shrunk(name, root):
    """Write the shipped configurations of an architecture with narrow networks, which are small enough for tests."""
    folder = shutil.copytree(architectures.FOLDER / name, root / name)
    two = name == "sdxl"
    levels = 3 if two else 4
    changes = {
        "unet": {"block_out_channels": [8] * levels, "cross_attention_dim": 40 if two else 16, "attention_head_dim": 2},
        "vae": {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4},
        "text_encoder": NARROW,
    }
    changes["unet"]["norm_num_groups"] = 4
    if two:
        changes["unet"] |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 24}
        changes["unet"] |= {"transformer_layers_per_block": [1, 1, 1]}
        changes["text_encoder_2"] = NARROW | {"hidden_size": 24, "projection_dim": 24}
    for part, values in changes.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def narrow(monkeypatch, tmp_path):
    """Replaces the shipped configurations of an architecture by narrow ones, and returns it."""

    def narrow(name):
        root = tmp_path / "configs"
        shutil.copytree(architectures.FOLDER / "tokenizer", root / "tokenizer")
        shrunk(name, root)
        monkeypatch.setattr(architectures, "FOLDER", root)
        found = next(each for each in architectures.ARCHITECTURES if each.name == name)
        found = replace(found, width=40 if name == "sdxl" else 16)
        monkeypatch.setattr(architectures, "ARCHITECTURES", (found,))
        return found

    return narrow


def pipeline_folder(architecture, path, prediction="epsilon"):
    """A random pipeline of an architecture, saved as a folder."""
    with tiny.seeded(1), architecture.staged() as folder:
        parts = {}
        for part, kind in read_index(folder).kinds.items():
            place = folder / part
            if part in CLASSES:
                parts[part] = CLASSES[part].from_config(json.loads((place / "config.json").read_text()))
            elif part.startswith("text_encoder"):
                config = transformers.CLIPTextConfig.from_pretrained(place)
                parts[part] = getattr(transformers, kind)(config)
            elif part.startswith("tokenizer"):
                parts[part] = transformers.CLIPTokenizer.from_pretrained(place)
        scheduler = tiny.DDIMScheduler(prediction_type=prediction, **tiny.STABLE_DIFFUSION_BETAS)
    if "text_encoder_2" in parts:
        pipe = StableDiffusionXLPipeline(**parts, scheduler=scheduler, add_watermarker=False)
    else:
        none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipe = StableDiffusionPipeline(**parts, scheduler=scheduler, **none)
    pipe.save_pretrained(path)
    return path


def open_clip(encoder, prefix):
    """The weights of a CLIP text encoder under the names of OpenCLIP, as files of Stable Diffusion 2.x and XL have."""
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    inner |= {"self_attn.out_proj": "attn.out_proj"}
    state = {name.removeprefix("text_model."): weight for name, weight in encoder.state_dict().items()}
    found = {}
    for name, weight in state.items():
        if name in names:
            found[prefix + names[name]] = weight
        elif name == "text_projection.weight":
            found[prefix + "text_projection"] = weight.T.contiguous()
        elif name.startswith("encoder.layers."):
            _, _, number, rest = name.split(".", 3)
            part, kind = rest.rsplit(".", 1)
            block = f"{prefix}transformer.resblocks.{number}."
            if part in inner:
                found[f"{block}{inner[part]}.{kind}"] = weight
            elif part == "self_attn.q_proj":
                others = [state[f"encoder.layers.{number}.self_attn.{other}_proj.{kind}"] for other in "qkv"]
                found[f"{block}attn.in_proj_{kind}"] = torch.cat(others)
    return found


def single_file(architecture, folder, path):
    """Write the folder as one checkpoint in the layout of its original repository."""
    weights = load_file(write_checkpoint(folder, path))
    text = {n: w for n, w in weights.items() if n.startswith("cond_stage_model.")}
    weights = {n: w for n, w in weights.items() if n not in text}
    pipe = StableDiffusionPipeline if architecture.name != "sdxl" else StableDiffusionXLPipeline
    pipe = pipe.from_pretrained(folder, local_files_only=True)
    if architecture.name == "sd1":
        weights |= text
    elif architecture.name == "sd2":
        weights |= open_clip(pipe.text_encoder, "cond_stage_model.model.")
    else:
        weights |= {n.replace("cond_stage_model.", "conditioner.embedders.0."): w for n, w in text.items()}
        weights |= open_clip(pipe.text_encoder_2, "conditioner.embedders.1.model.")
    save_file({n: w.clone().contiguous() for n, w in weights.items()}, path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_single_file_loads_without_a_folder(name, narrow, tmp_path, monkeypatch):
    architecture = narrow(name)
    monkeypatch.setattr("sfumato.models.single_file.predicts_v", lambda model: False)
    folder = pipeline_folder(architecture, tmp_path / "pipeline")
    path = single_file(architecture, folder, tmp_path / "one.safetensors")
    single, whole = load_model(path, "cpu"), load_model(folder, "cpu")
    assert single.fingerprint() == whole.fingerprint()
    assert single.schedule.timesteps(7) == whole.schedule.timesteps(7)
    for prompt in ("", "a red apple on a table, photograph"):
        one, other = (model.condition(prompt) for model in (single, whole))
        assert torch.equal(one.tokens, other.tokens)
        assert one.pooled is other.pooled is None or torch.equal(one.pooled, other.pooled)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("channels", [4, 9])
def test_prediction_type_is_detected_from_the_output(kind, channels, tmp_path, monkeypatch):
    model = load_model(tiny.tiny_inpainting(tmp_path / "m", channels=channels), "cpu")
    returned = {"epsilon": lambda x: 0.9 * x + 0.1, "v_prediction": lambda x: 0.05 * x - x.flip(3)}[kind]
    predicted = model.predict
    monkeypatch.setattr(model, "predict", lambda *inputs: (predicted(*inputs), returned(inputs[0]))[1])
    assert predicts_v(model) == (kind == "v_prediction")


@pytest.mark.parametrize("found", [True, False])
def test_stable_diffusion_2_uses_the_detected_prediction_type(found, narrow, tmp_path, monkeypatch):
    architecture = narrow("sd2")
    monkeypatch.setattr("sfumato.models.single_file.predicts_v", lambda model: found)
    folder = pipeline_folder(architecture, tmp_path / "pipeline")
    model = load_model(single_file(architecture, folder, tmp_path / "one.safetensors"), "cpu")
    assert model.schedule.prediction_type == ("v_prediction" if found else "epsilon")
    assert model.native_size == ((768, 768) if found else (512, 512))


def test_other_architectures_need_a_folder(tiny_sd_folder, tmp_path):
    path = write_checkpoint(tiny_sd_folder, tmp_path / "one.safetensors")
    with pytest.raises(BadInput, match=r"not of the architecture of Stable Diffusion 1\.x, 2\.x or XL: give --config"):
        load_model(path, "cpu")
