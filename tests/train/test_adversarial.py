"""The patch GAN: its losses in closed form, its adaptive weight and its gradients."""

import pytest
import torch
from torch import nn

from sfumato.errors import BadInput
from sfumato.train.adversarial import Discrimination, PatchDiscriminator, adaptive_weight, generator_loss, hinge_loss
from sfumato.train.autoencoder_network import AutoencoderNetwork, build_autoencoder
from sfumato.train.reconstruction import AutoencoderLoss, Reconstruction


@pytest.fixture
def parts():
    """A tiny autoencoder with its discriminator, and a batch of step 5."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_autoencoder(AutoencoderNetwork(f=2, channels=(8, 8), groups=4, latent_channels=2), 32)
        critic = PatchDiscriminator(8, 3)
        batch = {"pixels": torch.rand(2, 3, 32, 32) * 2 - 1, "noise": torch.randn(2, 2, 16, 16)}
    return network, critic, batch | {"step": torch.tensor(5)}


def test_discriminator_has_a_receptive_field_of_70_pixels():
    critic = PatchDiscriminator(8, 3)
    assert critic(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    # The receptive field of the convolutions only; group normalisation depends on the whole image.
    field = 1
    for layer in reversed([m for m in critic.patches if isinstance(m, nn.Conv2d)]):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == 70


def test_score_does_not_depend_on_the_batch():
    critic, x = PatchDiscriminator(8, 2), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(critic(x)[1:2], critic(x[1:2]))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: PatchDiscriminator(12), "multiple of 8"),
        (lambda: PatchDiscriminator(8, 0), "at least 1"),
        (lambda: PatchDiscriminator(8, 3).check(16), "at least 24"),
    ],
)
def test_invalid_discriminators_are_refused(wrong, sentence):
    with pytest.raises(BadInput, match=sentence):
        wrong()
    PatchDiscriminator(8, 3).check(24)
    assert PatchDiscriminator(8, 3)(torch.zeros(1, 3, 24, 24)).numel() == 1


def test_hinge_loss_in_closed_form():
    real, made = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5])
    assert hinge_loss(real, made).item() == pytest.approx(((0 + 0.5) / 2 + (0 + 1.5) / 2) / 2)


def test_generator_loss_has_no_gradient_for_the_discriminator(parts):
    _, critic, batch = parts
    x = batch["pixels"].clone().requires_grad_()
    loss = generator_loss(critic, x)
    torch.testing.assert_close(loss, -critic(batch["pixels"]).mean())
    loss.backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())


@pytest.mark.parametrize("scale", [1.0, 4096.0])
def test_adaptive_weight_is_the_ratio_of_the_gradients(scale):
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    weight = adaptive_weight(2 * w.square().sum(), 0.5 * w.sum(), w, scale)
    assert weight.item() == pytest.approx(4 * 5 / (0.5 * 2**0.5 + 1e-4), rel=1e-6)
    assert not weight.requires_grad


def test_adaptive_weight_is_clamped_for_zero_discriminator_gradient():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    assert adaptive_weight(1e3 * w.square().sum(), 0 * w.sum(), w).item() == 1e4


def test_adversarial_term_is_added_from_its_start_step(parts):
    network, critic, batch = parts
    plain = Reconstruction(network, AutoencoderLoss())(batch)[0]
    late = AutoencoderLoss(adversarial=0.5, adversarial_start=6)
    torch.testing.assert_close(Reconstruction(network, late, discriminator=critic)(batch)[0], plain)
    with_gan = Reconstruction(network, AutoencoderLoss(adversarial=0.5, adversarial_start=5), discriminator=critic)
    loss, scalars = with_gan(batch)
    torch.testing.assert_close(loss, plain + 0.5 * scalars["adaptive_weight"] * scalars["adversarial"])
    loss.backward()
    assert all(p.grad is None for p in critic.parameters())
    assert all(p.grad is not None for p in network.parameters())


@torch.no_grad()
def white(batch_size):
    """A tiny autoencoder's adversarial loss on white images: residuals of one sign, and large features."""
    torch.manual_seed(0)
    network = build_autoencoder(AutoencoderNetwork(f=2, channels=(8, 8), groups=4, latent_channels=2), 32)
    network.decoder.conv_norm_out.weight *= 20
    loss = AutoencoderLoss(adversarial=0.5, adversarial_start=0)
    batch = {"pixels": torch.ones(1, 3, 32, 32), "noise": torch.randn(1, 2, 16, 16)}
    batch = {name: value.repeat(batch_size, 1, 1, 1) for name, value in batch.items()}
    return Reconstruction(network, loss, discriminator=PatchDiscriminator(8, 3)), batch | {"step": torch.tensor(0)}


def test_adaptive_weight_does_not_overflow_in_half_precision():
    weights = []
    for precision, size in ((None, 1), (None, 16), (torch.float16, 16)):
        with torch.random.fork_rng(devices=[]):
            module, batch = white(size)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            weights.append(module(batch)[1]["adaptive_weight"].item())
    assert weights[1] == pytest.approx(weights[0], rel=1e-4)
    assert weights[2] == pytest.approx(weights[0], rel=0.05)


def test_phases_train_separate_weights(parts):
    network, critic, _ = parts
    reconstruction = Reconstruction(network, AutoencoderLoss(adversarial=1.0), discriminator=critic)
    judging = Discrimination(critic, reconstruction)
    assert {id(p) for p in reconstruction.parameters()} == {id(p) for p in network.parameters()}
    assert {id(p) for p in judging.parameters()} == {id(p) for p in critic.parameters()}


def test_discriminator_loss_has_no_gradient_for_the_autoencoder(parts):
    network, critic, batch = parts
    reconstruction = Reconstruction(network, AutoencoderLoss(adversarial=1.0), discriminator=critic)
    loss, scalars = Discrimination(critic, reconstruction)(batch)
    made = reconstruction.reconstruct(batch)[0]
    torch.testing.assert_close(loss, hinge_loss(critic(batch["pixels"]), critic(made)))
    loss.backward()
    assert all(p.grad is None for p in network.parameters())
    assert all(p.grad is not None for p in critic.parameters())
    assert scalars.keys() == {"real", "made"}


def test_discriminator_learns_to_separate_noise_from_smooth_images():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = PatchDiscriminator(8, 2)
        made = torch.rand(8, 3, 32, 32) * 2 - 1
        real = nn.functional.interpolate(made[..., ::8, ::8], scale_factor=8.0, mode="bilinear")
    adam = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    for _ in range(30):
        adam.zero_grad()
        loss = hinge_loss(critic(real), critic(made))
        loss.backward()
        adam.step()
    assert loss.item() < 0.5  # without any separation it is 1
