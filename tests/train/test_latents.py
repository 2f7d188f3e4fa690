"""The latent space a diffusion model is trained in: folded scaling, VQ scaling, and the cache."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from sfumato.errors import BadInput
from sfumato.train.latents import (
    SCALE,
    cached_latents,
    encode_images,
    encoder_fingerprint,
    kept_statistics,
    normalise_latent_space,
    scale_written,
)
from tests.train.small import Stored
from tests.train.test_autoencoder import tiny


@pytest.fixture
def images():
    draw = np.random.default_rng(0)
    return (draw.random((24, 3, 1, 1)) * 200 + draw.random((24, 3, 32, 32)) * 55).astype(np.uint8)


def pixels(images):
    return torch.from_numpy(images).float() / 127.5 - 1


@torch.no_grad()
def test_folded_scaling_changes_only_the_latents(images):
    network, _ = tiny("kl", 4)
    network.quant_conv.weight *= 3  # a latent space that is far from normal
    network.quant_conv.bias += torch.tensor([2.0, -1.0, 0.5, 0.1, 0.2, 0.3])
    x = pixels(images)
    before = network.encode(x).latent_dist
    decoded = network.decode(before.mode()).sample
    raw = encode_images(network, images)
    mean, std = raw.mean((0, 2, 3), keepdim=True), raw.std((0, 2, 3), keepdim=True)
    scaled = normalise_latent_space(network, raw)
    after = network.encode(x).latent_dist
    torch.testing.assert_close(scaled, (raw - mean) / std, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after.mode(), scaled, rtol=1e-4, atol=1e-4)  # kernels of another batch and layout
    torch.testing.assert_close(after.std, before.std / std, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network.decode(scaled).sample, decoded, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)
    assert network.config.scaling_factor == 1.0


@torch.no_grad()
def test_existing_scaling_factor_is_replaced_by_one(images):
    network = tiny("kl", 4)[0]
    network.register_to_config(scaling_factor=0.18215)
    normalise_latent_space(network, encode_images(network, images))
    assert network.config.scaling_factor == 1.0


@torch.no_grad()
def test_vq_latents_are_scaled_by_one_standard_deviation(images):
    network, _ = tiny("vq", 4)
    raw = encode_images(network, images)
    scaled = normalise_latent_space(network, raw)
    assert scaled.std().item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(scaled / network.config.scaling_factor, raw)
    torch.testing.assert_close(network.encode(pixels(images)).latents, raw)


def test_constant_channel_is_refused(images):
    network = tiny("kl", 4)[0]
    with torch.no_grad():
        network.quant_conv.weight[1] = 0
    with pytest.raises(BadInput, match=r"channel 1 .* is constant"):
        normalise_latent_space(network, encode_images(network, images))


def test_autoencoder_without_quant_conv_is_refused(images):
    network = AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=3, use_quant_conv=False, use_post_quant_conv=False
    )
    with pytest.raises(BadInput, match="quant_conv"):
        normalise_latent_space(network, encode_images(network, images))


def test_cache_depends_on_weights_and_images(images, tmp_path, monkeypatch):
    network = tiny("kl", 4)[0]
    first = cached_latents(network, Stored(images), tmp_path)
    torch.testing.assert_close(first, encode_images(network, images))
    with monkeypatch.context() as patch:
        patch.setattr("sfumato.train.latents.encode_images", lambda *_: pytest.fail("encoded again"))
        assert torch.equal(cached_latents(network, Stored(images), tmp_path), first)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    (tmp_path / ".sfumato-0.partial").write_bytes(b"of a killed run")
    cached_latents(network, Stored(images[:5]), tmp_path)
    with torch.no_grad():
        network.quant_conv.bias += 1
    assert not torch.equal(cached_latents(network, Stored(images), tmp_path), first)
    assert len(list(tmp_path.iterdir())) == len(list(tmp_path.glob("*.safetensors"))) == 3


def test_only_missing_cache_files_are_encoded_again(images, tmp_path, monkeypatch):
    network = tiny("kl", 4)[0]
    monkeypatch.setattr("sfumato.train.latents._SHARD", 10)
    first = cached_latents(network, Stored(images), tmp_path)
    torch.testing.assert_close(first, encode_images(network, images), rtol=1e-5, atol=1e-5)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 3
    files[1].unlink()
    encoded = []
    monkeypatch.setattr(
        "sfumato.train.latents.encode_images", lambda *given: encoded.append(len(given[1])) or encode_images(*given)
    )
    assert torch.equal(cached_latents(network, Stored(images), tmp_path), first)
    assert len(encoded) == 1, "only the missing file is made again"


def test_a_process_that_is_not_the_first_creates_the_cache(images, tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.train.latents.is_first", lambda: False)
    network, _ = tiny("kl", 4)
    assert len(cached_latents(network, Stored(images), tmp_path / "run" / "cache")) == len(images)


def test_latents_do_not_depend_on_the_batch_size(images):
    network = tiny("kl", 4)[0]
    torch.testing.assert_close(encode_images(network, images, 5), encode_images(network, images), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("regularisation", ["kl", "vq"])
def test_resumed_run_with_other_images_keeps_its_scaling(images, tmp_path, regularisation):
    first, second = tiny(regularisation, 4)[0], tiny(regularisation, 4)[0]
    encoder = encoder_fingerprint(first)
    raw, other = encode_images(first, images), encode_images(first, images[:7] // 2)
    normalise_latent_space(first, raw, kept_statistics(raw, tmp_path, encoder, None))
    scaled = normalise_latent_space(second, other, kept_statistics(other, tmp_path, encoder, {}))
    assert first.config.scaling_factor == second.config.scaling_factor
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)
    torch.testing.assert_close(encode_images(second, images[:7] // 2) * first.config.scaling_factor, scaled)
    assert [p.name for p in tmp_path.iterdir()] == [f"latent-statistics-{encoder[:16]}.safetensors"]


@torch.no_grad()
def test_kept_statistics_scale_vq_latents_equally(images, tmp_path):
    one, two = tiny("vq", 4)[0], tiny("vq", 4)[0]
    raw = encode_images(one, images) + torch.tensor([3.0, 0.0, -1.0])[:, None, None]
    normalise_latent_space(one, raw)
    normalise_latent_space(two, raw, kept_statistics(raw, tmp_path, "0", None))
    assert one.config.scaling_factor == two.config.scaling_factor == pytest.approx(1 / raw.std().item(), rel=1e-3)


@torch.no_grad()
def test_encoder_fingerprint_ignores_the_decoder():
    network = tiny("kl", 4)[0]
    before = encoder_fingerprint(network)
    for part in (network.decoder, network.post_quant_conv):
        next(part.parameters()).add_(1)
        assert encoder_fingerprint(network) == before
    for part in (network.encoder, network.quant_conv):
        next(part.parameters()).add_(1)
        assert encoder_fingerprint(network) != before
        before = encoder_fingerprint(network)


def test_statistics_are_kept_separately_per_encoder(tmp_path):
    one, two = torch.randn(9, 3, 4, 4), 5 * torch.randn(9, 3, 4, 4) + 2
    first = kept_statistics(one, tmp_path, "a" * 64, None)
    for before in (None, {}):
        mean, std = kept_statistics(two, tmp_path, "b" * 64, before)
        assert torch.equal(mean, two.mean((0, 2, 3)))
        assert torch.equal(std, two.std((0, 2, 3)))
        assert torch.equal(kept_statistics(two, tmp_path, "a" * 64, {})[1], first[1])


def test_older_statistics_file_is_used_only_when_resuming(tmp_path):
    one, old = torch.randn(9, 3, 4, 4), {"mean": torch.ones(3), "std": torch.full((3,), 2.0)}
    for folder in ("going on", "new"):
        (tmp_path / folder).mkdir()
        save_file(old, tmp_path / folder / "latent-statistics.safetensors")
    assert torch.equal(kept_statistics(one, tmp_path / "going on", "a" * 64, {})[1], old["std"])
    assert torch.equal(kept_statistics(one, tmp_path / "going on", "a" * 64, {})[0], old["mean"])
    assert torch.equal(kept_statistics(one, tmp_path / "going on", "b" * 64, {})[1], one.std((0, 2, 3)))
    assert torch.equal(kept_statistics(one, tmp_path / "new", "a" * 64, None)[1], one.std((0, 2, 3)))


def test_scale_of_the_checkpoint_overrides_the_cache(tmp_path):
    latents, other = torch.randn(9, 3, 4, 4), 3 * torch.randn(9, 3, 4, 4) + 1
    mean, std = kept_statistics(latents, tmp_path, "a" * 64, None)
    before = {"encoder": "a" * 64, SCALE: scale_written(mean, std)}
    for cache in (tmp_path, tmp_path / "deleted"):
        kept = kept_statistics(other, cache, "a" * 64, before)
        assert torch.equal(kept[0], mean)
        assert torch.equal(kept[1], std)
    assert torch.equal(kept_statistics(other, tmp_path, "b" * 64, before)[1], other.std((0, 2, 3)))
