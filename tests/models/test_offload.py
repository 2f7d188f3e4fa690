"""Offloading: the device of every network, and unchanged results, taps and fingerprints."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

import sfumato
from sfumato.errors import BadInput
from sfumato.models import offload as module
from sfumato.models.load import load_model
from tests import tiny


class Places:
    """Replaces `nn.Module.to` on a machine without GPU, and records the device of every network."""

    def __init__(self, monkeypatch):
        self.of, self.most, self.moves = {}, 0, 0
        self._really = nn.Module.to
        monkeypatch.setattr(module.nn.Module, "to", self._to)

    @property
    def _to(self):
        places = self

        def to(network, *args, **options):
            device = next((each for each in args if isinstance(each, torch.device)), options.get("device"))
            if device is not None:
                places.moves += places.of.get(id(network)) != device.type
                places.of[id(network)] = device.type
                places.most = max(places.most, list(places.of.values()).count("cuda"))
                args = tuple(each for each in args if each is not device)
                options.pop("device", None)
            return places._really(network, *args, **options) if args or options else network

        return to


@pytest.fixture
def offloaded(monkeypatch, tiny_sd_folder):
    """A model that would compute on a GPU; tensors stay on the CPU, because `computes_on` is patched."""
    places, model = Places(monkeypatch), sfumato.load(tiny_sd_folder, "cpu")
    monkeypatch.setattr(module, "send_to_device", lambda values, device: values)
    module.offload(model.network._networks().values(), torch.device("cuda"))
    for name in ("components", "text"):
        monkeypatch.setattr(f"sfumato.models.{name}.computes_on", lambda network: torch.device("cpu"))
    return model, places


@pytest.mark.parametrize("method", ["edit-friendly", "prompt-to-prompt", "plug-and-play", "pix2pix-zero"])
def test_edits_are_equal_with_one_network_on_the_device(method, offloaded, tiny_sd_folder):
    model, places = offloaded
    expected = sfumato.load(tiny_sd_folder, "cpu").invert(tiny.tiny_image(), "red cat", method=method, steps=3)
    inverted = model.invert(tiny.tiny_image(), "red cat", method=method, steps=3)
    found = inverted.edit("blue cat")
    assert (found.pixels[0] == expected.edit("blue cat").pixels[0]).all()
    assert set(places.of.values()) == {"cuda", "cpu"}
    assert places.most == 1
    assert found.recipes[0]["model_fingerprint"] == expected.edit("blue cat").recipes[0]["model_fingerprint"]


def test_networks_stay_on_the_device_while_gradients_are_enabled(offloaded):
    model, places = offloaded
    network, x = model.network, torch.zeros(1, 4, 8, 8, requires_grad=True)
    condition = network.condition("red")
    with torch.enable_grad():
        pixels = network.decode(network.predict(x, 500, condition))
        assert list(places.of.values()).count("cuda") == 2
        assert torch.autograd.grad(pixels.sum(), x)[0].isfinite().all()
    with torch.no_grad():
        network.encode(torch.zeros(1, 3, 16, 16))
    assert list(places.of.values()).count("cuda") == 1


def test_fingerprint_is_not_recomputed_after_moves(offloaded, monkeypatch):
    network = offloaded[0].network
    first = network.fingerprint()
    monkeypatch.setattr("sfumato.models.components.fingerprint", lambda *parts: pytest.fail("computed again"))
    network.condition("red")
    network.encode(torch.zeros(1, 3, 16, 16))
    assert network.fingerprint() == first


def test_offloading_requires_a_gpu(tiny_sd_folder):
    with pytest.raises(BadInput, match="saves memory of a GPU"):
        sfumato.load(tiny_sd_folder, "cpu", offload=True)
    with pytest.raises(BadInput, match="saves memory of a GPU"):
        load_model(tiny_sd_folder, "cpu").offload("cpu")


def test_model_of_an_offloading_pipeline_offloads(tiny_sd_folder, monkeypatch):
    pipe = StableDiffusionPipeline.from_pretrained(tiny_sd_folder, local_files_only=True)
    monkeypatch.setattr("sfumato.models.components.check_offload", lambda device: None)
    from accelerate import cpu_offload_with_hook

    _, hook = cpu_offload_with_hook(pipe.text_encoder, torch.device("cpu"))
    _, hook = cpu_offload_with_hook(pipe.unet, torch.device("cpu"), prev_module_hook=hook)
    cpu_offload_with_hook(pipe.vae, torch.device("cpu"), prev_module_hook=hook)
    network = sfumato.Model.from_pipe(pipe).network
    assert all(isinstance(each._hf_hook, module.Offload) for each in (pipe.unet, pipe.vae, pipe.text_encoder))
    assert network.device == torch.device("cpu")


def test_dtype_change_invalidates_the_condition_cache(tiny_sd_folder):
    model = sfumato.load(tiny_sd_folder, "cpu")
    assert model.condition(["red"], (32, 32)).tokens.dtype == torch.float32
    assert model.to(dtype="bf16") is model
    assert model.condition(["red"], (32, 32)).tokens.dtype == torch.bfloat16
    with pytest.raises(BadInput, match="is not on this machine"):
        model.to("cuda:7")
