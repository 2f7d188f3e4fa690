"""The structure distance against its definition, for every kind of supported encoder."""

import math

import pytest
import torch

from sfumato.errors import BadInput, NonFinite
from sfumato.metrics import VisionEncoder, self_similarity, structure_distance
from tests.metrics import encoders
from tests.metrics.encoders import MEAN, STD, image_pair


@pytest.fixture(scope="module", params=list(encoders.KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp(kind)
    encoders.save(kind, folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return VisionEncoder(folder)


def direct_keys(kind, x):
    """The keys of the last layer from the model's own hidden state, norm and projection."""
    with torch.no_grad():
        model = encoders.KINDS[kind]
        with encoders.tiny.seeded(0):
            model = model().eval()
        model = model.vision_model if kind == "clip" else model
        normal = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        states = model(normal, output_hidden_states=True).hidden_states
        if kind == "clip":
            last = model.encoder.layers[-1]
            return last.self_attn.k_proj(last.layer_norm1(states[-2]))
        last = model.layers[-1] if kind == "vit" else model.encoder.layer[-1]
        norm = last.layernorm_before if kind == "vit" else last.norm1
        attention = last.attention
        return attention.k_proj(norm(states[-2]))


def direct(keys_a, keys_b, weight=None):
    """Pair by pair, straight from the definition."""
    total = area = 0.0
    for i in range(len(keys_a)):
        for j in range(len(keys_a)):
            cosines = [
                float(k[i] @ k[j]) / math.sqrt(float(k[i] @ k[i]) * float(k[j] @ k[j]))
                for k in (keys_a.double(), keys_b.double())
            ]
            share = 1.0 if weight is None else weight[i] * weight[j]
            total += share * (cosines[0] - cosines[1]) ** 2
            area += share
    return total / area


def test_equals_the_definition_on_the_last_layer_s_keys(kind, encoder):
    a, b = image_pair(1)
    keys_a, keys_b = direct_keys(kind, a), direct_keys(kind, b)
    torch.testing.assert_close(encoder.keys(2 * a - 1), keys_a, atol=1e-5, rtol=1e-4)
    expected = [direct(x, y) for x, y in zip(keys_a, keys_b, strict=True)]
    found = structure_distance(encoder, a, b)
    assert found.numpy() == pytest.approx(expected, rel=1e-4)
    assert min(expected) > 1e-5


def test_a_mask_weighs_pairs_of_patches(kind, encoder):
    a, b = image_pair(2, b=1)
    mask = torch.zeros(16, 16)
    mask[:8, :6] = 1
    patches = [1, 0.5, 0, 0] * 2 + [0] * 8
    keys_a, keys_b = direct_keys(kind, a)[0], direct_keys(kind, b)[0]
    weight = [0.0] * (len(keys_a) - 16) + patches
    assert structure_distance(encoder, a, b, mask).item() == pytest.approx(direct(keys_a, keys_b, weight), rel=1e-4)


def test_full_mask_changes_nothing_and_empty_mask_is_refused(encoder):
    a, b = image_pair(3)
    full = structure_distance(encoder, a, b, torch.ones(16, 16))
    torch.testing.assert_close(full, structure_distance(encoder, a, b))
    with pytest.raises(BadInput, match="empty"):
        structure_distance(encoder, a, b, torch.zeros(16, 16))


def test_symmetry_and_independence_of_batch_and_scale(encoder):
    a, b = image_pair(4)
    assert structure_distance(encoder, a, a).tolist() == [0, 0, 0]
    found = structure_distance(encoder, a, b)
    torch.testing.assert_close(found, structure_distance(encoder, b, a))
    alone = [structure_distance(encoder, a[i : i + 1], b[i : i + 1]).item() for i in range(3)]
    assert found.numpy() == pytest.approx(alone, rel=1e-3)
    assert found.dtype == torch.float64
    keys = torch.randn(2, 5, 7)
    scaled = self_similarity(keys * torch.rand(2, 5, 1).add(0.1))
    torch.testing.assert_close(self_similarity(keys), scaled, rtol=1e-5, atol=1e-6)


def test_other_sizes_and_half_precision_are_accepted(encoder):
    a, b = image_pair(5, h=40, w=23)
    assert structure_distance(encoder, a, b).shape == (3,)
    mask = torch.ones(40, 23)
    mask[20:] = 0
    assert torch.isfinite(structure_distance(encoder, a, b, mask)).all()
    half = structure_distance(encoder, a.half(), b.half())
    torch.testing.assert_close(half, structure_distance(encoder, a.half().float(), b.half().float()))


def test_first_feature_map_keeps_patch_positions(kind, folder, encoder):
    """If one patch changes, the first feature map changes most at its position."""
    a, _ = image_pair(6, b=1)
    b = a.clone()
    b[:, :, 4:8, 8:12] = 1 - b[:, :, 4:8, 8:12]
    first = (encoder(2 * a - 1)[0] - encoder(2 * b - 1)[0]).square().sum(1)[0]
    assert first.shape == (4, 4)
    assert first.argmax() == 1 * 4 + 2


def test_no_forward_hooks_remain(encoder):
    a, b = image_pair(7)
    structure_distance(encoder, a, b)
    with pytest.raises(NonFinite):
        structure_distance(encoder, a * math.nan, b)
    with pytest.raises(RuntimeError):
        encoder.keys(a.to("meta"))
    assert not encoder._last_keys[0]._forward_hooks


def test_folders_without_an_encoder_are_refused(tmp_path):
    with pytest.raises(BadInput, match="preprocessor_config"):
        VisionEncoder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0,0,0], "image_std": [1,1,1]}')
    with pytest.raises(BadInput, match=r"config\.json"):
        VisionEncoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(BadInput, match="cannot be read"):
        VisionEncoder(tmp_path)
