"""Empty names, which are falsy in Python, are refused like other invalid names."""

import json

import pytest
import torch
from safetensors.torch import save_file

from sfumato.errors import BadInput
from sfumato.models.index import read_index
from sfumato.networks.weights import find_weights


def test_part_with_an_empty_name_is_refused(tmp_path):
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"], "": []}
    (tmp_path / "model_index.json").write_text(json.dumps(parts))
    with pytest.raises(BadInput, match=r"'' must be a library and a class"):
        read_index(tmp_path)


def test_empty_weight_file_name_is_refused(tmp_path):
    index = {"weight_map": {"a": "", "b": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=r"names '', but weights must be \.safetensors files"):
        find_weights(tmp_path, "model", tmp_path)


def test_duplicate_weight_with_an_empty_name_is_refused(tmp_path):
    names = ["model-1.safetensors", "model-2.safetensors"]
    for name in names:
        save_file({"": torch.zeros(1), name: torch.zeros(1)}, tmp_path / name)
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=r"contains the weight '', which is also in another file"):
        find_weights(tmp_path, "model", tmp_path)
