"""Every supported vision transformer is loaded and returns feature maps and attention keys."""

import json
from dataclasses import fields

import pytest
import torch
from transformers import SiglipConfig, SiglipModel

from sfumato.errors import BadInput
from sfumato.metrics import VisionEncoder
from sfumato.metrics.vision import CLASSES
from tests import tiny
from tests.metrics.encoders import MEAN, STD

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "mlp_ratio": 2}
SMALL |= {"image_size": 16, "patch_size": 4}
#: Dual encoders, whose image encoder is stored together with the text encoder.
PAIRS = ("clip", "siglip")


def save(network, folder):
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))


def check(folder, like):
    encoder = VisionEncoder(folder)
    x = torch.rand(1, 3, 20, 24) * 2 - 1
    assert [tuple(each.shape) for each in encoder(x)] == [(1, 16, 4, 4)] * 2
    assert encoder.keys(x).shape[-1] == 16
    ours, theirs = encoder.model.state_dict(), like.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in PAIRS])
def test_weights_are_loaded_from_the_folder(name, tmp_path):
    kind = CLASSES[name]
    known = {each.name for each in fields(kind.config_class)}
    with tiny.seeded(0):
        network = kind(kind.config_class(**{key: value for key, value in SMALL.items() if key in known}))
    assert network.config.model_type == name
    save(network, tmp_path)
    check(tmp_path, network)


def test_image_encoder_of_siglip_is_loaded(tmp_path):
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {key: value for key, value in SMALL.items() if key != "mlp_ratio"}
    with tiny.seeded(0):
        network = SiglipModel(SiglipConfig(text_config=text | {"vocab_size": 20}, vision_config=vision))
    save(network, tmp_path)
    check(tmp_path, network.vision_model)


def test_encoder_without_layers_is_refused(tmp_path):
    kind = CLASSES["dinov2"]
    known = {each.name for each in fields(kind.config_class)}
    small = {key: value for key, value in SMALL.items() if key in known}
    save(kind(kind.config_class(**small | {"num_hidden_layers": 0})), tmp_path)
    with pytest.raises(BadInput, match="no separate layer for the attention keys"):
        VisionEncoder(tmp_path)
