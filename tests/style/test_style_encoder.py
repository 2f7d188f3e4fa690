"""The style encoder: its statistics, its file, its words."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from sfumato.errors import BadInput, NonFinite
from sfumato.style.content import ContentEncoder
from sfumato.style.encoder import StyleEncoder, load_style_encoder
from sfumato.style.files import FILE
from sfumato.style.network import BINS, StyleNetwork, moments, palette
from sfumato.style.words import StyleWords, notes_on, parts_of, words_of
from tests import tiny
from tests.style.small import SIDE, save_content, style_encoder


@pytest.fixture
def images():
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_moments_are_mean_and_deviation_of_each_channel(images):
    found = moments(images)
    flat = images.numpy().reshape(3, 3, -1)
    np.testing.assert_allclose(found[:, :3], flat.mean(2), rtol=1e-5)
    np.testing.assert_allclose(found[:, 3:], flat.std(2), rtol=1e-3)


def test_statistics_contain_every_stage(images):
    """An independent forward pass, stage by stage."""
    with tiny.seeded(1):
        network = StyleNetwork((8, 16, 24), 12)
    found = network.statistics(images)
    features, wanted = images, [palette(images)]
    for number, conv in enumerate(network.convs):
        if number:
            groups = F.group_norm(features, 8, network.norms[number - 1].weight, network.norms[number - 1].bias)
            features = groups * torch.sigmoid(groups)
        features = F.conv2d(features, conv.weight, conv.bias, stride=1 + bool(number), padding=1)
        wanted += [features.mean((2, 3)), features.std((2, 3), correction=0)]
    torch.testing.assert_close(found, torch.cat(wanted, dim=1), rtol=1e-3, atol=1e-4)
    assert found.shape == (3, BINS**3 + 2 * (8 + 16 + 24))


def test_palette_is_a_trilinear_histogram(images):
    """Linear interpolation of one indicator per bin, as `numpy.interp` does it for each channel."""
    hats = np.eye(BINS)
    at = np.linspace(-1, 1, BINS)
    weights = [np.stack([np.interp(images[:, c].numpy(), at, hat) for hat in hats]) for c in range(3)]
    shares = np.einsum("rbhw,gbhw,vbhw->brgv", *weights) / (SIDE * SIDE)
    np.testing.assert_allclose(palette(images).pow(2).numpy(), shares.reshape(3, -1) + 1e-5, rtol=1e-3, atol=1e-6)


def test_palette_gradient_equals_finite_differences(images):
    pixels = (0.9 * images[:1, :, :3, :3].double()).requires_grad_()
    mix = torch.randn(BINS**3, generator=torch.Generator().manual_seed(0))
    (palette(pixels).pow(2) @ mix).backward()  # piecewise linear
    for c, row, column in ((0, 0, 0), (1, 2, 1), (2, 1, 2)):
        step = torch.zeros_like(pixels)
        step[0, c, row, column] = 1e-3
        change = (palette(pixels + step).pow(2) - palette(pixels - step).pow(2)) @ mix / 2e-3
        assert pixels.grad[0, c, row, column].item() == pytest.approx(change.item(), rel=1e-2, abs=1e-4)


def test_standardised_statistics_have_mean_0_and_deviation_1(images):
    with tiny.seeded(1):
        network = StyleNetwork((8, 16), 12)
    network.standardise(images)
    found = (network.statistics(images) - network.mean) / network.deviation
    torch.testing.assert_close(found.mean(0), torch.zeros(found.shape[1]), rtol=0, atol=1e-3)
    torch.testing.assert_close(network.deviation, network.statistics(images).std(0) + 1e-3)


def test_descriptors_of_one_stage_are_translation_invariant(images):
    """A patch is moved on a constant background: the first stage receives the same patches."""
    with tiny.seeded(1):
        network = StyleNetwork((8,), 12)
    page = torch.zeros(1, 3, SIDE, SIDE)
    page[..., 3:7, 3:7] = images[:1, :, :4, :4]
    moved = page.roll((5, 4), dims=(2, 3))
    torch.testing.assert_close(network(page), network(moved), rtol=1e-4, atol=1e-5)


def test_features_are_unit_vectors_independent_of_the_batch(images):
    encoder = style_encoder()
    found = encoder.image_features(images)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found[1:2], encoder.image_features(images[1:2]))


def test_values_out_of_range_are_clipped_at_every_size(images):
    """Also before resizing: the descriptors of an index are computed from images with values in [-1, 1]."""
    encoder = style_encoder()
    for side in (SIDE, 24):
        x = F.interpolate(4 * images - 2, (side, side), mode="nearest")  # half of the values are outside [-1, 1]
        clipped = torch.from_numpy(np.minimum(np.maximum(x.numpy(), -1), 1))
        torch.testing.assert_close(encoder.embed(x), encoder.embed(clipped), rtol=0, atol=1e-6)
        assert (encoder.embed(x / 2) - encoder.embed(clipped)).abs().max() > 1e-3


def test_images_are_resized_to_the_training_size(images):
    encoder, large = style_encoder(), F.interpolate(images, (40, 24), mode="bicubic").clamp(0, 1)
    small = F.interpolate(2 * large - 1, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
    wanted = F.normalize(encoder.network(small), dim=1)
    torch.testing.assert_close(encoder.image_features(large), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda x: x[0], BadInput),
        (lambda x: 2 * x, BadInput),
        (lambda x: x / 0, NonFinite),
        (lambda x: x[:0], BadInput),
    ],
)
def test_invalid_images_are_refused(images, change, error):
    with pytest.raises(error):
        style_encoder().image_features(change(images))


def test_nan_pixels_give_nan_features(images):
    broken = images.clone()
    broken[1, 2, 2, 3] = torch.nan
    found = palette(broken)
    assert found[1].isnan().any()
    torch.testing.assert_close(found[[0, 2]], palette(images)[[0, 2]])
    assert style_encoder().embed(broken)[1].isnan().all()


def test_fingerprint_changes_with_size_configs_and_tokenizer(tmp_path):
    encoder = style_encoder()
    same, other = (StyleEncoder(encoder.network, size, encoder.words) for size in (SIDE, 2 * SIDE))
    assert same.fingerprint == encoder.fingerprint != other.fingerprint
    folder = save_content(tmp_path / "content")
    before = ContentEncoder.load(folder)
    before.text_features(["red apple"])  # a tokenizer keeps its last padding

    def changed(name, part, value):
        path = folder / name
        text = path.read_text()
        path.write_text(json.dumps(part(json.loads(text), value)))
        found = ContentEncoder.load(folder).fingerprint
        path.write_text(text)
        return found

    def in_text(table, value):
        return table | {"text_config": table["text_config"] | value}

    def in_model(table, value):
        vocab = table["model"]["vocab"]
        one, two = sorted(vocab, key=vocab.get)[5:7]
        vocab[one], vocab[two] = vocab[two], vocab[one]
        return table

    assert before.fingerprint == ContentEncoder.load(folder).fingerprint
    assert changed("preprocessor_config.json", dict.__or__, {"image_mean": [0.4, 0.5, 0.5]}) != before.fingerprint
    assert changed("config.json", in_text, {"hidden_act": "quick_gelu"}) != before.fingerprint
    assert changed("tokenizer.json", in_model, None) != before.fingerprint


def test_saved_encoder_is_stored_in_half_precision(tmp_path, images):
    encoder = style_encoder()
    encoder.save(tmp_path / FILE)
    for place in (tmp_path, tmp_path / FILE):
        again = load_style_encoder(place)
        assert (again.size, again.words.words) == (SIDE, encoder.words.words)
        torch.testing.assert_close(again.image_features(images), encoder.image_features(images), atol=2e-3, rtol=0)
    half = {name: value.half().float() for name, value in encoder.network.state_dict().items()}
    assert all(torch.equal(value, half[name]) for name, value in again.network.state_dict().items())
    assert again.fingerprint == load_style_encoder(tmp_path).fingerprint != style_encoder(1).fingerprint


@pytest.mark.parametrize("damage", ["shape", "words", "nan", "other"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / FILE
    style_encoder().save(path)
    tensors = load_file(path)
    if damage == "shape":
        tensors["convs.0.weight"] = tensors["convs.0.weight"][:4]
    if damage == "words":
        tensors["words.means"] = tensors["words.means"][:1]
    if damage == "nan":
        tensors["convs.0.bias"][0] = torch.nan
    header = {"format": "other" if damage == "other" else StyleEncoder.FORMAT.name}
    header["sfumato"] = '{"size": 16, "channels": [8, 16, 16], "dimension": 12, "words": ["flat", "round"]}'
    save_file(tensors, path, header)
    with pytest.raises(BadInput, match="style encoder"):
        load_style_encoder(path)
    with pytest.raises(BadInput, match="contains no style"):
        load_style_encoder(tmp_path.parent)


def test_words_are_extracted_from_texts():
    assert words_of("A Fluent-Flat fox, twemoji; a fox") == ["a", "fluent-flat", "fox", "twemoji"]
    assert parts_of("fluent-flat") == ["fluent-flat", "fluent", "flat"]


def test_words_are_means_and_texts_add_differences():
    vectors = torch.tensor([[1.0, 0], [0, 1], [1, 1], [3, 0]])
    words = StyleWords.learn(vectors, ["fox, flat-a", "fox, b", "owl, b", "owl, flat-a"], least=2)
    assert words.words == ("a", "b", "flat", "flat-a", "fox", "owl")
    torch.testing.assert_close(words("b"), vectors[1:3].mean(0))
    torch.testing.assert_close(words("flat-a"), vectors[[0, 3]].mean(0))
    centre = vectors.mean(0)
    torch.testing.assert_close(
        words("b, fox"), centre + (vectors[1:3].mean(0) - centre) + (vectors[:2].mean(0) - centre)
    )
    torch.testing.assert_close(words("an unknown b"), words("b"))
    with pytest.raises(BadInput, match="did you mean 'flat'"):
        words("flet")


def test_unknown_and_function_words():
    """Function words have no effect although captions contain them, and are not reported."""
    vectors = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    words = StyleWords.learn(vectors, ["man in a suit, flat-mono", "fox in of, flat", "up, noto-o's"], least=1)
    assert {"in", "of", "up", "o", "s"} <= set(words.words)
    assert words.unknown("in the style of impressionism, flat") == ["impressionism"]
    assert words.unknown("Flat-oil painting; oil, water-colour, up-to-date flat-mono") == [
        "oil", "painting", "water-colour", "date",
    ]  # fmt: skip
    for text in ("flat", "in the style of flat", "impressionism flat", "flat-impressionism"):
        torch.testing.assert_close(words(text), words("flat"))
    for text in ("in the style of impressionism", "of and in", "s o up no"):
        with pytest.raises(BadInput, match="trained with no word of"):
            words(text)
    with pytest.raises(BadInput, match="did you mean 'flat'"):
        words("in flta")
    assert notes_on([]) == []
    assert notes_on(["oil"]) == ['The style encoder knows no "oil": it has no effect.']
    assert notes_on(["oil", "ink"]) == ['The style encoder knows no "oil", "ink": they have no effect.']


def test_text_features_are_unit_vectors():
    found = style_encoder().text_features(["flat", "round flat"])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
