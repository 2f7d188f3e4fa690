"""Tiny random vision transformers of every kind that the metrics open, saved in transformers' layout."""

import json

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)

from tests import tiny

SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.3, 0.2]


def clip():
    transformer = SMALL | {"intermediate_size": 32}
    text = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    text |= {"vocab_size": 20, "max_position_embeddings": 8}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=transformer | {"initializer_factor": 5.0}, projection_dim=8)
    )


def vit():
    return ViTModel(ViTConfig(intermediate_size=32, initializer_range=0.3, **SMALL), add_pooling_layer=False)


def dinov2():
    return Dinov2Model(Dinov2Config(mlp_ratio=2, initializer_range=0.3, **SMALL))


def registers():
    config = Dinov2WithRegistersConfig(mlp_ratio=2, initializer_range=0.3, num_register_tokens=3, **SMALL)
    return Dinov2WithRegistersModel(config)


KINDS = {"clip": clip, "vit": vit, "dinov2": dinov2, "registers": registers}


def save(kind, folder):
    with tiny.seeded(0):
        model = KINDS[kind]().eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return model


def image_pair(seed=0, b=3, h=16, w=16, noise=0.3):
    """Two batches in [0, 1], the second a noisy copy of the first."""
    draw = torch.Generator().manual_seed(seed)
    a = torch.rand(b, 3, h, w, generator=draw)
    return a, (a + noise * torch.randn(a.shape, generator=draw)).clamp(0, 1)
