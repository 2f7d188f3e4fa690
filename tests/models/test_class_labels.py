"""Networks with class embeddings: accepted labels, and predictions equal to those of diffusers' networks."""

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel

from sfumato.core.guidance import classifier_free
from sfumato.errors import BadInput
from sfumato.models.class_labels import ClassLabels, class_labels
from sfumato.models.load import load_model
from tests import tiny

EMBEDDED = 8 * 4
"""Width of the time embedding of the tiny networks."""


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixel_folder(path, **unet):
    return tiny.tiny_ddpm(path, **{"num_class_embeds": 11} | unet)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return load_model(pixel_folder(tmp_path_factory.mktemp("m") / "pixels"), "cpu")


def plain(folder, kind):
    return kind.from_pretrained(folder, subfolder="unet", local_files_only=True).eval()


VECTORS = noise(3, EMBEDDED, seed=1)
KINDS = [
    ({"num_class_embeds": 11}, [0, 10, 4]),
    ({"class_embed_type": "timestep"}, [0, 999, 4]),
    ({"class_embed_type": "timestep"}, [0.0, 0.5, 4.25]),
    ({"class_embed_type": "identity"}, VECTORS),
]
PROJECTIONS = [
    ({"class_embed_type": kind, "projection_class_embeddings_input_dim": 6, "num_class_embeds": None}, VECTORS[:, :6])
    for kind in ("projection", "simple_projection")
]


@pytest.mark.parametrize(("unet", "labels"), KINDS)
@torch.no_grad()
def test_a_unet2d_model_predicts_as_in_diffusers(unet, labels, tmp_path):
    folder = tiny.tiny_ddpm(tmp_path / "m", **unet)
    model, x = load_model(folder, "cpu"), noise(3, 3, 16, 16)
    cond = model.condition(labels=labels)
    expected = plain(folder, UNet2DModel)(x, 300, class_labels=torch.as_tensor(labels)).sample
    assert torch.equal(model.predict(x, 300, cond), expected)
    assert not torch.equal(model.predict(x, 300, cond[[1, 2, 0]]), expected)
    assert model.bottleneck(x, 300, cond).shape[0] == 3


@pytest.mark.parametrize(("unet", "labels"), KINDS + PROJECTIONS)
@torch.no_grad()
def test_unet2d_condition_model_without_text_predicts_as_in_diffusers(unet, labels, tmp_path):
    folder = tiny.tiny_class_latent(tmp_path / "m", **{"num_class_embeds": None} | unet)
    model, x = load_model(folder, "cpu"), noise(3, 4, 8, 8)
    assert (model.takes_text, model.factor, model.token_width) == (False, 4, 0)
    cond = model.condition(labels=labels)
    given = torch.as_tensor(labels)
    expected = plain(folder, UNet2DConditionModel)(x, 300, encoder_hidden_states=None, class_labels=given).sample
    assert torch.equal(model.predict(x, 300, cond), expected)
    assert not torch.equal(model.predict(x, 300, cond[[1, 2, 0]]), expected)


@torch.no_grad()
def test_cross_attention_without_a_text_encoder_takes_tokens(tmp_path):
    """As the ImageNet models of latent diffusion, whose label is embedded to one token outside the network."""
    folder = tiny.tiny_class_latent(tmp_path / "m", cross_attention=True)
    model, x, tokens = load_model(folder, "cpu"), noise(2, 4, 8, 8), noise(2, 1, tiny.WIDTH, seed=1)
    cond = model.condition(labels=[3, 10], tokens=tokens)
    network = plain(folder, UNet2DConditionModel)
    expected = network(x, 300, encoder_hidden_states=tokens, class_labels=torch.tensor([3, 10])).sample
    assert torch.equal(model.predict(x, 300, cond), expected)
    for wrong in (None, tokens[:1], tokens[..., :-1], tokens[0]):
        with pytest.raises(BadInput, match=r"tokens.*\[2,n,16\]"):
            model.condition(labels=[3, 10], tokens=wrong)
    with pytest.raises(BadInput, match=r"give model.condition\(tokens="):
        model.predict(x, 300, load_model(pixel_folder(tmp_path / "p"), "cpu").condition(labels=[3, 4]))


@torch.no_grad()
def test_labels_and_prompts_can_be_combined(tmp_path):
    folder = tiny.tiny_sd(tmp_path / "m", num_class_embeds=5)
    model, x = load_model(folder, "cpu"), noise(2, 4, 8, 8)
    cond = model.condition(["red apple", "cat"], labels=[1, 4])
    network = plain(folder, UNet2DConditionModel)
    expected = network(x, 300, encoder_hidden_states=cond.tokens, class_labels=torch.tensor([1, 4])).sample
    assert torch.equal(model.predict(x, 300, cond), expected)


@torch.no_grad()
def test_upscaler_takes_low_resolution_image_and_noise_level(tmp_path):
    folder = tiny.tiny_upscaler(tmp_path / "m")
    model, x, small = load_model(folder, "cpu"), noise(2, 4, 8, 8), noise(2, 3, 8, 8, seed=1)
    cond = model.condition("red apple", maps=small, labels=[20, 49])
    network = plain(folder, UNet2DConditionModel)
    given = {"encoder_hidden_states": cond.tokens, "class_labels": torch.tensor([20, 49])}
    v = network(torch.cat([x, small], 1), 300, **given).sample
    abar = model.schedule.abar(300)
    expected = abar**0.5 * v + (1 - abar) ** 0.5 * x
    torch.testing.assert_close(model.predict(x, 300, cond), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("unet", "labels"), KINDS + PROJECTIONS)
@torch.no_grad()
def test_labels_in_half_precision(unet, labels, tmp_path):
    folder = tiny.tiny_class_latent(tmp_path / "m", **{"num_class_embeds": None} | unet)
    model, x = load_model(folder, "cpu", "bf16"), noise(3, 4, 8, 8)
    cond = model.condition(labels=labels)
    assert cond.labels.dtype in (torch.int64, torch.float32)
    full = load_model(folder, "cpu").predict(x, 300, cond)
    torch.testing.assert_close(model.predict(x, 300, cond), full, atol=0.1, rtol=0.1)


def test_timestep_class_embedding_requires_float32(tmp_path):
    folder = tiny.tiny_ddpm(tmp_path / "m", class_embed_type="timestep")
    model = load_model(folder, "cpu", "bf16")
    with pytest.raises(BadInput, match="float32 only"):
        model.predict(noise(1, 3, 16, 16), 300, model.condition(labels=3))
    assert model.to(dtype="fp32").predict(noise(1, 3, 16, 16), 300, model.condition(labels=3)).isfinite().all()


@torch.no_grad()
def test_guidance_with_the_label_for_no_class(pixels):
    x, cond, none = noise(2, 3, 16, 16), pixels.condition(labels=[3, 4]), pixels.condition(labels=[10, 10])
    eps, unconditional = pixels.predict(x, 300, cond), pixels.predict(x, 300, none)
    guided = classifier_free(pixels, none, (3.0, 3.0)).predict(x, 300, cond)
    torch.testing.assert_close(guided, unconditional + 3 * (eps - unconditional), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("expected", "labels"),
    [
        (ClassLabels(count=3), [3]),
        (ClassLabels(count=3), [-1]),
        (ClassLabels(count=3), [1.0]),
        (ClassLabels(count=3), True),
        (ClassLabels(count=3), "1"),
        (ClassLabels(count=3), ["cat"]),
        (ClassLabels(count=3), [[1]]),
        (ClassLabels(count=3), [10**30]),
        (ClassLabels(), [-1]),
        (ClassLabels(), [float("nan")]),
        (ClassLabels(), [[1.0, 2.0]]),
        (ClassLabels(width=2), [1.0, 2.0]),
        (ClassLabels(width=2), [[1, 2]]),
        (ClassLabels(width=2), [[1.0, 2.0, 3.0]]),
        (ClassLabels(width=2), [[1.0, float("inf")]]),
    ],
)
def test_invalid_labels_are_rejected(expected, labels):
    with pytest.raises(BadInput, match=r"labels must be (integers|numbers|vectors) \[rows"):
        expected.read(labels)


def test_single_label_is_one_row_and_integers_become_int64():
    assert ClassLabels(count=3).read(2).tolist() == [2]
    for labels in ([1, 2], (1, 2), torch.tensor([1, 2], dtype=torch.uint8)):
        read = ClassLabels(count=3).read(labels)
        assert (read.dtype, read.tolist()) == (torch.int64, [1, 2])
    assert ClassLabels().read([0.5, 2]).tolist() == [0.5, 2.0]


def test_network_without_class_embedding_rejects_labels_and_tokens(tiny_sd_folder):
    model = load_model(tiny_sd_folder, "cpu")
    assert class_labels(model.unet) is None
    with pytest.raises(BadInput, match="takes no class labels"):
        model.condition("red", labels=3)
    with pytest.raises(BadInput, match="takes no tokens except those of its prompts"):
        model.condition("red", tokens=noise(1, 77, 16))


def test_wrong_number_of_labels_is_rejected_before_evaluation(pixels, tmp_path):
    x, before = noise(2, 3, 16, 16), pixels.count.calls
    with pytest.raises(BadInput, match=r"takes class labels: give labels, integers \[rows\] from 0 to 10"):
        pixels.condition(["", ""])
    with pytest.raises(BadInput, match="one class label per row of the condition: 2, not 3"):
        pixels.condition(["", ""], labels=[1, 2, 3])
    without = load_model(tiny.tiny_ddpm(tmp_path / "m"), "cpu")
    for cond in (None, without.condition(["", ""])):
        with pytest.raises(BadInput, match="must have class labels"):
            pixels.predict(x, 5, cond)
    with pytest.raises(BadInput, match="takes no class labels"):
        without.predict(x, 5, pixels.condition(labels=[1, 2]))
    assert pixels.count.calls == before
    assert without.count.calls == 0
