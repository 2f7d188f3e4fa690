"""Malicious config files: invalid values, and files that are not JSON objects."""

import pytest

from sfumato.metrics import DualEncoder, VisionEncoder
from sfumato.train.frozen import load_autoencoder
from tests.attacks import malicious as bad
from tests.attacks.components import COMPONENTS, OPEN

SIZES = {
    "U-Net": ("layers_per_block", "block_out_channels", "norm_num_groups", "attention_head_dim"),
    "autoencoder": ("layers_per_block", "block_out_channels", "latent_channels", "norm_num_groups"),
    "text": ("num_hidden_layers", "hidden_size", "intermediate_size", "max_position_embeddings", "vocab_size"),
    "vision": ("num_hidden_layers", "hidden_size", "image_size", "patch_size", "mlp_ratio", "num_channels"),
}  # fmt: skip


@pytest.mark.parametrize("value", bad.VALUES)
@pytest.mark.parametrize(("name", "setting"), [(name, each) for name, settings in SIZES.items() for each in settings])
def test_size_that_differs_from_the_weights_is_refused(name, setting, value, copy, guard):
    component = COMPONENTS[name]
    folder = copy(component.base)
    bad.change_json(component.config(folder), **{setting: bad.VALUES[value]})
    assert guard(lambda: component.opens(folder))


@pytest.mark.parametrize("blocks", [1000, 20_000])
def test_config_with_more_blocks_than_weights_is_refused(blocks, copy, guard):
    folder = copy("ddpm")
    changes = {"down_block_types": ["DownBlock2D"] * blocks, "up_block_types": ["UpBlock2D"] * blocks}
    bad.change_json(folder / "unet/config.json", **changes, block_out_channels=[8] * blocks)
    assert guard(lambda: OPEN(folder))


def test_network_larger_than_its_weights_is_refused_before_allocation(copy, guard):
    """Each value alone is one that real networks have."""
    folder = copy("sd")
    bad.change_json(folder / "unet/config.json", block_out_channels=[40_000, 40_000], norm_num_groups=8)
    assert "larger network than its weights" in guard(lambda: OPEN(folder))


@pytest.mark.parametrize("side", [8192, 100_000, 10**7])
def test_oversized_preprocessor_images_are_refused(side, copy, guard):
    folder = copy("clip")
    bad.change_json(folder / "preprocessor_config.json", size={"height": side, "width": side}, crop_size=None)
    assert "sides of 1 to" in guard(lambda: DualEncoder.load(folder))
    bad.change_json(folder / "preprocessor_config.json", size={"shortest_edge": side})
    assert "sides of 1 to" in guard(lambda: DualEncoder.load(folder))


FILES = {
    "index": ("sd", "model_index.json", OPEN),
    "network": ("sd", "unet/config.json", OPEN),
    "encoder": ("sd", "text_encoder/config.json", OPEN),
    "scheduler": ("ddpm", "scheduler/scheduler_config.json", OPEN),
    "options": ("ddpm", "sfumato.json", OPEN),
    "vocabulary": ("clip", "tokenizer.json", DualEncoder.load),
    "tokenizer": ("clip", "tokenizer_config.json", DualEncoder.load),
    "special tokens": ("clip", "special_tokens_map.json", DualEncoder.load),
    "preprocessor": ("clip", "preprocessor_config.json", DualEncoder.load),
    "dual encoder": ("clip", "config.json", DualEncoder.load),
    "vision": ("dinov2", "config.json", VisionEncoder),
    "autoencoder": ("sd", "vae/config.json", lambda root: load_autoencoder(root / "vae")),
}


@pytest.mark.parametrize("text", bad.TEXTS)
@pytest.mark.parametrize("name", FILES)
def test_invalid_config_file_is_refused(name, text, copy, guard):
    base, file, opens = FILES[name]
    folder = copy(base)
    (folder / file).write_bytes(bad.TEXTS[text])
    assert guard(lambda: opens(folder))


@pytest.mark.parametrize("place", bad.PLACES)
@pytest.mark.parametrize("name", FILES)
def test_config_must_be_a_regular_file_in_the_folder(name, place, copy, guard):
    base, file, opens = FILES[name]
    folder = copy(base)
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    bad.PLACES[place](folder / file, guard.outside)
    assert guard(lambda: opens(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_train_timesteps": 10**6},
        {"num_train_timesteps": 10**12},
        {"num_train_timesteps": 0},
        {"num_train_timesteps": -5},
        {"num_train_timesteps": "1000"},
        {"num_train_timesteps": 10.5},
        {"beta_start": "a"},
        {"beta_start": float("nan")},
        {"beta_start": [0.1]},
        {"beta_end": float("inf")},
        {"beta_schedule": [bad.MODULE]},
        {"beta_schedule": f"{bad.MODULE}.betas"},
        {"trained_betas": [0.1] * 20_000},
        {"trained_betas": ["a"] * 1000},
        {"trained_betas": {"a": 1}},
        {"clip_sample_range": [1], "clip_sample": True},
        {"timestep_spacing": ["leading"]},
        {"prediction_type": {"a": 1}},
        {"variance_type": "learned"},
    ],
)
def test_scheduler_with_invalid_settings_is_refused(changes, copy, guard):
    folder = copy("ddpm")
    bad.change_json(folder / "scheduler/scheduler_config.json", **changes)
    assert guard(lambda: OPEN(folder))


@pytest.mark.parametrize("name", [f"{bad.MODULE}.Scheduler", "UNet2DModel", [bad.MODULE], "FlaxDDIMScheduler", 5])
def test_class_name_in_the_scheduler_config_is_ignored(name, copy, guard):
    folder = copy("ddpm")
    bad.change_json(folder / "scheduler/scheduler_config.json", _class_name=name)
    assert not guard(lambda: OPEN(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"image_mean": ["a", "b", "c"]},
        {"image_mean": [0.5]},
        {"image_mean": 0.5},
        {"image_mean": [float("nan")] * 3},
        {"image_std": [0, 0, 0]},
        {"image_std": None},
        {"size": {"height": 0, "width": 5}},
        {"size": {"height": -5, "width": 5}},
        {"size": {"shortest_edge": 1.5}},
        {"size": "32"},
        {"size": []},
        {"size": {"a": 1}},
        {"crop_size": {"height": 10**9, "width": 10**9}, "do_center_crop": True},
        {"crop_size": [1, 2], "do_center_crop": True},
    ],
)
def test_preprocessor_with_invalid_settings_is_refused(changes, copy, guard):
    folder = copy("clip")
    bad.change_json(folder / "preprocessor_config.json", **changes)
    assert "preprocessor_config.json" in guard(lambda: DualEncoder.load(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoImageProcessor": f"{bad.MODULE}.Processor"}},
        {"image_processor_type": f"{bad.MODULE}.Processor"},
    ],
)
@pytest.mark.parametrize("base", ["clip", "dinov2"])
def test_class_name_in_the_preprocessor_config_is_ignored(base, changes, copy, guard):
    folder = copy(base)
    bad.change_json(folder / "preprocessor_config.json", **changes)
    assert not guard(lambda: {"clip": DualEncoder.load, "dinov2": VisionEncoder}[base](folder))


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("vae", {"scaling_factor": "a"}),
        ("vae", {"scaling_factor": float("nan")}),
        ("vae", {"shift_factor": "a"}),
        ("vae", {"shift_factor": [1]}),
        ("vae", {"latents_mean": ["a"] * 4}),
        ("vae", {"latents_std": {"a": 1}}),
        ("unet", {"sample_size": 10**7}),
        ("unet", {"sample_size": 4096}),
        ("unet", {"sample_size": -8}),
        ("unet", {"sample_size": "8"}),
        ("unet", {"sample_size": [8, 10**6]}),
        ("unet", {"sample_size": []}),
    ],
)
def test_invalid_settings_without_matching_weights_are_refused(part, changes, copy, guard):
    """Scaling factors of the latents, and the default size."""
    folder = copy("sd")
    bad.change_json(folder / part / "config.json", **changes)
    assert guard(lambda: OPEN(folder))
