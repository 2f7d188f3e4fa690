"""Malicious weight files: name, location and header are checked before a library opens them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.metrics import load_perceptual
from tests.attacks import malicious as bad
from tests.attacks.components import COMPONENTS, OPEN, WAYS, shard


@pytest.mark.parametrize("content", bad.WEIGHTS)
@pytest.mark.parametrize("name", WAYS)
def test_invalid_weights_are_refused(name, content, copy, guard):
    component = COMPONENTS[name]
    folder = copy(component.base)
    bad.WEIGHTS[content](component.weights(folder))
    assert guard(lambda: component.opens(folder))


def test_header_of_a_million_tensors_is_refused(copy, guard):
    folder = copy("sd")
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(bad.header(bad.tensors(1_000_000)))
    assert guard(lambda: OPEN(folder))


@pytest.mark.parametrize("place", bad.PLACES)
@pytest.mark.parametrize("name", WAYS)
def test_weights_must_be_regular_files_in_the_folder(name, place, copy, guard):
    component = COMPONENTS[name]
    folder = copy(component.base)
    bad.PLACES[place](component.weights(folder), guard.outside)
    assert guard(lambda: component.opens(folder))


@pytest.mark.parametrize("value", bad.SHARDS)
@pytest.mark.parametrize("name", WAYS)
def test_index_must_name_safetensors_files_beside_it(name, value, copy, guard):
    component = COMPONENTS[name]
    folder = copy(component.base)
    shard(folder, component, guard, bad.SHARDS[value])
    assert guard(lambda: component.opens(folder))


@pytest.mark.parametrize("value", ["pytorch_model.bin", "../outside/pickle.bin", "link.safetensors", "weights.gguf"])
@pytest.mark.parametrize("name", ["U-Net", "text encoder"])
def test_fp16_index_must_name_safetensors_files_beside_it(name, value, copy, guard):
    component = COMPONENTS[name]
    folder = copy(component.base)
    shard(folder, component, guard, value, ".fp16")
    assert guard(lambda: component.opens(folder))


@pytest.mark.parametrize(
    "weight_map", [None, {}, [], "model.bin", {"a": "b.bin"}, {f"t{n}": f"{n}.safetensors" for n in range(5000)}]
)
def test_invalid_weight_map_is_refused(weight_map, copy, guard):
    folder = copy("sd")
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert guard(lambda: OPEN(folder))


@pytest.mark.parametrize(
    "file",
    ["pytorch_model.bin", "model.pt", "model.ckpt", "tf_model.h5", "flax_model.msgpack", "model.gguf", "rust_model.ot"],
)
@pytest.mark.parametrize("name", WAYS)
def test_other_formats_are_not_opened_without_safetensors(name, file, copy, guard):
    component = COMPONENTS[name]
    folder = copy(component.base)
    path = component.weights(folder)
    path.with_name(file).write_bytes((guard.outside / "pickle.bin").read_bytes())
    path.with_name(f"{component.stem}.bin").write_bytes((guard.outside / "pickle.bin").read_bytes())
    path.unlink()
    assert guard(lambda: component.opens(folder))


@pytest.mark.parametrize("content", bad.WEIGHTS)
@pytest.mark.parametrize("kind", ["network", "learned weights"])
def test_invalid_weights_of_a_perceptual_network_are_refused(kind, content, copy, guard):
    folder = copy("vit" if kind == "learned weights" else "squeezenet")
    name = "lpips.safetensors" if kind == "learned weights" else "model.safetensors"
    (folder / name).touch()
    bad.WEIGHTS[content](folder / name)
    assert guard(lambda: load_perceptual(str(folder)))


@pytest.mark.parametrize("content", bad.WEIGHTS)
def test_invalid_single_file_is_refused(content, copy, bases, guard):
    path = copy("single") / "model.safetensors"
    bad.WEIGHTS[content](path)
    assert guard(lambda: OPEN(path, config=bases["sd"]))


@pytest.mark.parametrize("place", ["a pipe", "a device", "a terminal", "a link to itself", "a link to nothing"])
def test_single_file_must_be_a_regular_file(place, copy, bases, guard):
    path = copy("single") / "model.safetensors"
    bad.PLACES[place](path, guard.outside)
    assert guard(lambda: OPEN(path, config=bases["sd"]))


def test_weights_with_right_names_but_wrong_shapes_are_refused(copy, guard):
    """Every weight must have the network's shape, not only its name."""
    folder = copy("sd")
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: torch.zeros(1) for name in load_file(path)}, path, {"format": "pt"})
    assert guard(lambda: OPEN(folder))
