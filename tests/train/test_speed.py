"""Speed options do not change the training: batches on the device, compiled networks, channels last."""

import dataclasses
import json

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from sfumato.train.checkpoint import newest_checkpoint, read_checkpoint
from sfumato.train.loop import Run
from sfumato.train.seeds import step_generator
from sfumato.train.start import build_task
from tests.train.small import AUTOENCODER, DUAL_ENCODER, UNET, small_recipe, trained

pytestmark = pytest.mark.slow


def with_run(recipe, **changes):
    return dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, **changes))


def weights(run, file):
    return read_checkpoint(newest_checkpoint(run.folder / "checkpoints"))[0][file]


@pytest.mark.parametrize(("kind", "network"), [("autoencoder", AUTOENCODER), ("dual-encoder", DUAL_ENCODER)])
def test_pixels_are_transferred_as_bytes(image_folder, tmp_path, monkeypatch, kind, network):
    recipe, moved = small_recipe(kind, image_folder, 1, network), []
    plain = build_task(recipe, tmp_path).batch(step_generator(0, 3, 0), 5)
    task = build_task(recipe, tmp_path, "meta")  # a device without values, so that nothing can be read back from it
    to = torch.Tensor.to

    def noted(tensor, *given, **named):
        if torch.device("meta") in given or "meta" in given:
            moved.append(tensor.nbytes)
        return to(tensor, *given, **named)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    batch = task.batch(step_generator(0, 3, 0), 5)
    assert batch["pixels"].device.type == "meta"
    assert batch["pixels"].shape == plain["pixels"].shape
    assert batch["pixels"].dtype == plain["pixels"].dtype == torch.float32
    assert sum(moved) < 1.1 * 5 * 3 * 32 * 32
    for name in batch.keys() - {"pixels"}:
        assert torch.equal(batch[name], plain[name]), "the draws depend on the device"


@pytest.fixture
def compiled(monkeypatch):
    """The list of compiled networks; the eager backend is used, as a machine may lack a C++ compiler."""
    compile_, found = nn.Module.compile, []

    def traced(module):
        found.append(module)
        compile_(module, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", traced)
    return found


@pytest.mark.timeout(900)
def test_a_compiled_autoencoder_takes_the_same_steps(image_folder, tmp_path, compiled):
    loss = {"adversarial": 0.5, "adversarial_start": 1, "discriminator_channels": 8, "discriminator_layers": 1}
    recipe = small_recipe("autoencoder", image_folder, 2, AUTOENCODER, batch=2, **loss)
    plain = trained(recipe, tmp_path / "plain")
    assert not compiled
    run = trained(with_run(recipe, compile=True), tmp_path / "compiled")
    assert compiled == [run.task.autoencoder.encoder], "the adaptive weight goes through the decoder twice"
    for name, value in weights(run, "autoencoder").items():
        torch.testing.assert_close(value, weights(plain, "autoencoder")[name], rtol=1e-4, atol=1e-5)


@pytest.mark.timeout(900)
def test_compiled_networks_can_be_trained_and_exported(image_folder, tmp_path, compiled):
    recipe = small_recipe("dual-encoder", image_folder, 1, DUAL_ENCODER, batch=4)
    run = trained(with_run(recipe, compile=True), tmp_path / "dual")
    run.export(tmp_path / "dual" / "export")
    expected = [run.task.clip.vision_model, run.task.clip.text_model]
    recipe = small_recipe("autoencoder", image_folder, 1, AUTOENCODER, batch=2)
    run = trained(with_run(recipe, compile=True), tmp_path / "autoencoder")
    run.export(tmp_path / "autoencoder" / "export")
    expected += [run.task.autoencoder.encoder, run.task.autoencoder.decoder]
    network = UNET | {
        "autoencoder": str(tmp_path / "autoencoder" / "export"), "text": {"start": str(tmp_path / "dual" / "export")}
    }  # fmt: skip
    recipe = small_recipe("diffusion", image_folder, 1, network, batch=2)
    run = trained(with_run(recipe, compile=True), tmp_path / "unet")
    assert compiled == [*expected, run.task.unet]
    run.export(tmp_path / "export")
    assert json.loads((tmp_path / "export" / "model_index.json").read_text())["unet"][1] == "UNet2DConditionModel"


def test_channels_last_gives_the_same_training(image_folder, tmp_path):
    # The learning rate is small since Adam amplifies rounding errors.
    recipe = small_recipe("autoencoder", image_folder, 4, AUTOENCODER, batch=2, lr=1e-6)
    plain = trained(recipe, tmp_path / "plain")
    fast = with_run(recipe, channels_last=True)
    for run in (Run(build_task(fast, tmp_path), fast, tmp_path / "fast", "cpu") for _ in range(2)):
        for report in run.steps():
            if report.step == 2:
                break  # and resume from the checkpoint, which has the default memory layout
    kernel = run.task.autoencoder.decoder.conv_in.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
    state = run.trained.optimizers["autoencoder"].state[kernel]
    assert state["exp_avg"].stride() == kernel.stride()
    theirs = weights(plain, "autoencoder.optimizer")
    for name, value in weights(run, "autoencoder.optimizer").items():
        scale = max(theirs[name].abs().max().item(), 1e-3)
        torch.testing.assert_close(value / scale, theirs[name] / scale, rtol=0, atol=1e-3, msg=name)
    run.export(tmp_path / "export")
    plain.export(tmp_path / "plain export")
    one, two = (AutoencoderKL.from_pretrained(tmp_path / name).state_dict() for name in ("export", "plain export"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=1e-5)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
