"""The perceptual distance as a term of the autoencoder's loss."""

import torch

from sfumato.metrics import load_perceptual
from sfumato.train.autoencoder_network import AutoencoderNetwork, build_autoencoder
from sfumato.train.reconstruction import AutoencoderLoss, Reconstruction
from tests.metrics import encoders


def test_gradient_reaches_only_the_autoencoder(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_autoencoder(AutoencoderNetwork(f=2, channels=(8, 8), groups=4, latent_channels=2), 16)
        batch = {"pixels": torch.rand(2, 3, 16, 16) * 2 - 1, "noise": torch.randn(2, 2, 8, 8)}
    encoders.save("clip", tmp_path)
    distance = load_perceptual(str(tmp_path))
    module = Reconstruction(network, AutoencoderLoss(pixel=0.0, kl=0.0, perceptual=1.0), distance)
    loss, scalars = module(batch)
    torch.testing.assert_close(loss, scalars["perceptual"])
    loss.backward()
    assert network.decoder.conv_out.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in distance.parameters())
    assert not any(name.endswith(tuple(distance.state_dict())) for name in module.state_dict())
    assert {id(p) for p in module.parameters()} == {id(p) for p in network.parameters()}
    moved = Reconstruction(network, AutoencoderLoss(perceptual=1.0), distance).to(torch.float64)
    assert distance.network.mean.dtype == torch.float64
    assert next(moved.parameters()).dtype == torch.float64
