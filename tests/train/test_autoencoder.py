"""KL- and VQ-regularised autoencoders: their shapes, their loss in closed form, and invalid settings."""

import dataclasses
import math

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from PIL import Image

from sfumato.errors import BadInput
from sfumato.train.autoencoder import AutoencoderTask
from sfumato.train.autoencoder_network import AutoencoderNetwork, build_autoencoder
from sfumato.train.growing import grow
from sfumato.train.reconstruction import AutoencoderLoss, Reconstruction
from sfumato.train.seeds import step_generator
from tests.train.small import AUTOENCODER, small_recipe, trained


def tiny(regularisation, f, size=32):
    levels = int(math.log2(f)) + 1
    shape = AutoencoderNetwork(
        regularisation=regularisation, f=f, channels=(8,) * levels, groups=4, latent_channels=3, codebook=16
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_autoencoder(shape, size)
        batch = {
            "pixels": torch.rand(4, 3, size, size) * 2 - 1,
            "noise": torch.randn(4, 3, size // f, size // f),
            "step": torch.tensor(0),
        }
    return network, batch


@pytest.mark.parametrize("f", [2, 4, 8, 16, 32])
@pytest.mark.parametrize(("regularisation", "kind"), [("kl", AutoencoderKL), ("vq", VQModel)])
def test_every_factor_encodes_decodes_and_learns(regularisation, kind, f):
    network, batch = tiny(regularisation, f)
    assert isinstance(network, kind)
    module = Reconstruction(network, AutoencoderLoss())
    encoded = network.encode(batch["pixels"])
    latent = encoded.latents if regularisation == "vq" else encoded.latent_dist.mode()
    assert latent.shape == (4, 3, 32 // f, 32 // f)
    assert module.reconstruct(batch)[0].shape == batch["pixels"].shape
    adam = torch.optim.Adam(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        adam.zero_grad()
        loss, scalars = module(batch)
        loss.backward()
        if not losses:
            assert all(p.grad is not None for p in module.parameters())
            assert network.encoder.conv_in.weight.grad.abs().sum() > 0, "nothing reaches the encoder"
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert math.isfinite(scalars["psnr"])


def test_kl_loss_in_closed_form():
    network, batch = tiny("kl", 4)
    loss, scalars = Reconstruction(network, AutoencoderLoss(pixel=2.0, kl=0.1))(batch)
    posterior = network.encode(batch["pixels"]).latent_dist
    mean, variance = posterior.mean, posterior.std.square()
    kl = (mean.square() + variance - 1 - variance.log()).mean() / 2
    xr = network.decode(mean + posterior.std * batch["noise"]).sample
    error = (xr - batch["pixels"]).abs().mean()
    torch.testing.assert_close(loss, 2 * error + 0.1 * kl)
    torch.testing.assert_close(scalars["kl"], 0.1 * kl)
    mse = ((xr.clamp(-1, 1) - batch["pixels"]) / 2).square().mean()
    torch.testing.assert_close(scalars["psnr"], 10 * torch.log10(1 / mse))


def test_vq_loss_in_closed_form_with_beta_on_encoder():
    network, batch = tiny("vq", 4)
    loss, scalars = Reconstruction(network, AutoencoderLoss(commitment=3.0))(batch)
    z, codes = network.encode(batch["pixels"]).latents, network.quantize.embedding.weight
    flat = z.permute(0, 2, 3, 1).reshape(-1, 3)
    nearest = codes[torch.cdist(flat, codes).argmin(1)]
    distance = (flat - nearest).square().mean()
    error = (network(batch["pixels"]).sample - batch["pixels"]).abs().mean()
    torch.testing.assert_close(loss, error + 3 * 1.25 * distance)
    torch.testing.assert_close(scalars["commitment"], 3 * 1.25 * distance)
    assert scalars["codes"] == len(nearest.unique(dim=0))
    gradient = torch.autograd.grad(Reconstruction(network, AutoencoderLoss(pixel=0))(batch)[0], codes)[0]
    expected = torch.autograd.grad((flat.detach() - nearest).square().mean(), codes, retain_graph=True)[0]
    torch.testing.assert_close(gradient, expected)


def test_terms_of_weight_zero_are_not_computed(image_folder):
    task = AutoencoderTask(small_recipe("autoencoder", image_folder, 1, AUTOENCODER))
    assert len(task.phases) == 1
    assert task.phases[0].module._perceptual == (None,)
    batch = task.batch(step_generator(0, 0, 0), 2) | {"step": torch.tensor(0)}
    assert task.phases[0].module(batch)[1].keys() == {"pixel", "kl", "psnr"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"f": 3}, "2, 4, 8, 16 or 32"),
        ({"f": 8}, "needs 4 widths"),
        ({"channels": (15, 16, 32)}, "multiples of network.groups"),
        ({"regularisation": "none"}, "'kl' or 'vq'"),
        ({"freeze_encoder": True}, "needs network.start"),
        ({"start": "/nowhere"}, "no exported model"),
        ({"f": 0}, "network.f must be at least 2"),
    ],
)
def test_invalid_networks_are_refused(image_folder, change, sentence):
    with pytest.raises(BadInput, match=sentence):
        AutoencoderTask(small_recipe("autoencoder", image_folder, 1, AUTOENCODER | change))


@pytest.mark.parametrize("loss", [{"kl": -1.0}, {"pixel": math.nan}, {"adversarial": -0.5}, {"adversarial_start": -1}])
def test_invalid_loss_weights_are_refused(image_folder, loss):
    with pytest.raises(BadInput, match=r"loss\.\w+ must be at least 0"):
        AutoencoderTask(small_recipe("autoencoder", image_folder, 1, AUTOENCODER, **loss))


def test_crops_too_small_for_the_discriminator_are_refused(image_folder):
    recipe = small_recipe("autoencoder", image_folder, 1, AUTOENCODER, adversarial=0.5, discriminator_layers=2)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, crop=8))
    with pytest.raises(BadInput, match=r"8 pixels \(data\.crop.*at least 12"):
        AutoencoderTask(recipe)


@pytest.mark.parametrize("grown", [False, True])
def test_weights_of_another_architecture_with_equal_shapes_are_refused(image_folder, tmp_path, grown):
    """Another number of groups in the group normalisation changes what the weights compute."""
    AutoencoderTask(small_recipe("autoencoder", image_folder, 1, AUTOENCODER)).export(tmp_path / "export")
    start = AUTOENCODER | {"start": str(tmp_path / "export")}
    start |= {"f": 8, "channels": (16, 16, 16, 32)} if grown else {}
    AutoencoderTask(small_recipe("autoencoder", image_folder, 1, start))
    with pytest.raises(BadInput, match="norm_num_groups 8, here 16"):
        AutoencoderTask(small_recipe("autoencoder", image_folder, 1, start | {"groups": 16}))


def test_sizes_that_the_factor_does_not_divide_are_refused(image_folder):
    recipe = small_recipe("autoencoder", image_folder, 1, AUTOENCODER)
    with pytest.raises(BadInput, match="multiple of f=4"):
        AutoencoderTask(dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, size=30)))


def test_complete_loss_trains_resumes_and_exports(image_folder, tmp_path):
    """Pixel, perceptual and adversarial terms; resumed across the start of the GAN, exported, and used as a start."""
    clip = trained(small_recipe("dual-encoder", image_folder, 1, {"width": 64, "image_layers": 1, "text_layers": 1}),
                   tmp_path / "clip")  # fmt: skip
    clip.export(tmp_path / "clip" / "export")
    loss = {
        "perceptual": 0.5, "perceptual_network": str(tmp_path / "clip" / "export"), "adversarial": 0.5,
        "adversarial_start": 3, "discriminator_channels": 8,
    }  # fmt: skip
    recipe = small_recipe("autoencoder", image_folder, 2, AUTOENCODER, batch=2, **loss)
    trained(recipe, tmp_path / "run")
    longer = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, steps=5, sample_every=5))
    run = trained(longer, tmp_path / "run")
    assert run.trained.ema["discriminator"].optimization_step == 2
    whole = trained(longer, tmp_path / "whole")
    for mine, theirs in zip(run.task.phases, whole.task.phases, strict=True):
        for one, two in zip(mine.module.parameters(), theirs.module.parameters(), strict=True):
            assert torch.equal(one, two)
    run.export(tmp_path / "export")
    opened = AutoencoderKL.from_pretrained(tmp_path / "export", local_files_only=True)
    for value, average in zip(opened.parameters(), run.trained.ema["autoencoder"].shadow_params, strict=True):
        assert torch.equal(value, average)
    on = AUTOENCODER | {"start": str(tmp_path / "export"), "freeze_encoder": True}
    task = trained(small_recipe("autoencoder", image_folder, 2, on, batch=2), tmp_path / "on").task
    assert torch.equal(task.autoencoder.encoder.conv_in.weight, opened.encoder.conv_in.weight)
    assert not torch.equal(task.autoencoder.decoder.conv_in.weight, opened.decoder.conv_in.weight)
    assert (tmp_path / "run" / "samples" / "step-00000005.png").is_file()


def grown_pair():
    """An autoencoder for 16 px with f = 2, and one grown from it for 32 px with f = 4."""
    shape = dict(latent_channels=3, groups=4, layers=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = build_autoencoder(AutoencoderNetwork(f=2, channels=(8, 16), **shape), 16)
        grown = build_autoencoder(AutoencoderNetwork(f=4, channels=(8, 8, 16), **shape), 32)
    grow(grown, start)
    return start, grown


@torch.no_grad()
def test_grown_autoencoder_starts_as_the_smaller_one():
    start, grown = grown_pair()
    x = torch.rand(2, 8, 12, 12, generator=torch.Generator().manual_seed(0))
    for block in (grown.encoder.down_blocks[0].resnets[0], *grown.decoder.up_blocks[-1].resnets):
        assert torch.equal(block(x, None), x), "the new residual blocks are the identity"
    upsampled = grown.decoder.up_blocks[-2].upsamplers[0](x)
    assert torch.equal(upsampled, x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    flat = torch.full((1, 3, 32, 32), 0.3)
    features = grown.encoder.down_blocks[0](grown.encoder.conv_in(flat))
    expected = start.encoder.conv_in(flat[..., :16, :16])
    torch.testing.assert_close(features[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])
    latent = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    inner = grown.decoder.mid_block(grown.decoder.conv_in(grown.post_quant_conv(latent)))
    torch.testing.assert_close(inner, start.decoder.mid_block(start.decoder.conv_in(start.post_quant_conv(latent))))
    same = grown.encoder.down_blocks[1:].state_dict()
    assert all(torch.equal(same[name], value) for name, value in start.encoder.down_blocks.state_dict().items())


def test_every_weight_of_a_grown_autoencoder_learns():
    _, grown = grown_pair()
    adam = torch.optim.SGD(grown.parameters(), lr=0.1)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in grown.state_dict().items()}
    for _ in range(2):  # layers before a zero convolution have no gradient at first
        adam.zero_grad()
        (grown(x, sample_posterior=True, generator=torch.Generator().manual_seed(0)).sample - x).abs().mean().backward()
        adam.step()
    assert [name for name, value in grown.state_dict().items() if torch.equal(value, before[name])] == []


def test_only_an_autoencoder_of_the_right_widths_is_grown(image_folder, tmp_path):
    small = AUTOENCODER | {"f": 2, "channels": (16, 32)}
    trained(small_recipe("autoencoder", image_folder, 1, small), tmp_path).export(tmp_path / "export")
    right = AUTOENCODER | {"channels": (16, 16, 32), "start": str(tmp_path / "export")}
    assert AutoencoderTask(small_recipe("autoencoder", image_folder, 1, right)).autoencoder is not None
    for wrong, sentence in [
        ({"channels": (8, 16, 32)}, r"network\.channels must be \[16, 16, 32\] to grow"),
        ({"latent_channels": 5}, "cannot be grown to the architecture in"),
        ({"layers": 2}, "cannot be grown to the architecture in"),
    ]:
        with pytest.raises(BadInput, match=sentence):
            AutoencoderTask(small_recipe("autoencoder", image_folder, 1, right | wrong))


def test_invalid_crop_sizes_are_refused(image_folder):
    for crop in (30, 64):
        recipe = small_recipe("autoencoder", image_folder, 1, AUTOENCODER)
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, crop=crop))
        with pytest.raises(BadInput, match=rf"data\.crop must be a multiple of f=4 up to 32, not {crop}"):
            AutoencoderTask(recipe)


def test_run_on_crops_samples_whole_images(image_folder, tmp_path):
    recipe = small_recipe("autoencoder", image_folder, 1, AUTOENCODER)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, crop=16))
    task = AutoencoderTask(recipe)
    batch = task.batch(step_generator(0, 0, 0), 3)
    assert batch["pixels"].shape == (3, 3, 16, 16)
    assert batch["noise"].shape == (3, 4, 4, 4)
    task.sample(tmp_path, 1)
    with Image.open(tmp_path / "step-00000001.png") as grid:
        assert grid.width > 8 * 32
