"""The dual encoder against transformers' own preprocessing and projections, on a tiny random CLIP."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from sfumato.errors import BadInput, NonFinite
from sfumato.metrics import DualEncoder, Evaluator
from tests import tiny

TEXTS = ["a red apple", "a cat", "a blue bird that sings"]


def save_clip(folder, **processor):
    tokenizer = tiny.tiny_tokenizer(context=48)
    text = tiny.text_config(tokenizer).to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8, "initializer_factor": 3.0}
    with tiny.seeded(0):
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = {"height": 32, "width": 32}
    settings = {"size": side, "crop_size": side, "do_center_crop": False} | processor
    CLIPImageProcessorPil(**settings).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return DualEncoder.load(folder)


def test_loading_prints_nothing_and_keeps_progress_bars(folder, capfd):
    from transformers.utils import logging

    logging.enable_progress_bar()
    DualEncoder.load(folder)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def encoder_std(folder):
    return json.loads((folder / "preprocessor_config.json").read_text())["image_std"]


def pixels(seed=0, b=3, h=32, w=32):
    return torch.from_numpy(np.random.default_rng(seed).random((b, 3, h, w), dtype=np.float32))


def test_image_features_are_normalised_projections(encoder):
    x = pixels()
    vision, mean, std = (
        encoder.model.vision_model,
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    )
    normal = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        projected = encoder.model.visual_projection(vision(pixel_values=normal).pooler_output)
    expected = projected / projected.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(encoder.image_features(x), expected, atol=1e-6, rtol=1e-5)


def test_scores_equal_the_logits_of_transformers(encoder):
    x = pixels(1)
    tokens = encoder.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = encoder.model(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            pixel_values=encoder.preprocessor(x),
        )
    expected = (out.logits_per_image / encoder.model.logit_scale.exp()).diagonal()
    torch.testing.assert_close(encoder.score(x, TEXTS), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "processor",
    [
        {},
        {"size": {"shortest_edge": 32}, "do_center_crop": True},
        {"size": {"shortest_edge": 21}, "do_center_crop": True},
        {"size": {"shortest_edge": 40}, "do_center_crop": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    ],
)
@pytest.mark.parametrize(("h", "w"), [(32, 32), (64, 64), (90, 61), (20, 47), (7, 5)])
def test_preprocessing_equals_the_image_processor(tmp_path, processor, h, w):
    save_clip(tmp_path, **processor)
    rng = np.random.default_rng(h)
    # The processor rounds to 8 bits and clips after each of its two passes: a level or two off at most.
    image = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((w, h)))
    expected = CLIPImageProcessorPil.from_pretrained(tmp_path)(Image.fromarray(image), return_tensors="pt")
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    actual = DualEncoder.load(tmp_path).preprocessor(x)
    assert actual.shape == expected.pixel_values.shape
    levels = (actual - expected.pixel_values).abs() * 255 * max(encoder_std(tmp_path))
    assert levels.max() < 3
    assert levels.mean() < 0.7


def test_features_are_normalised_and_independent_of_batch(encoder):
    x = pixels(2, b=70)
    together = encoder.image_features(x)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(70))
    torch.testing.assert_close(together[5:6], encoder.image_features(x[5:6]), atol=1e-6, rtol=1e-5)
    texts = [f"{i} apples" for i in range(70)]
    together = encoder.text_features(texts)
    torch.testing.assert_close(together[66:67], encoder.text_features(texts[66:67]), atol=1e-6, rtol=1e-5)


def test_half_precision_input_and_no_gradient(encoder):
    features = encoder.image_features(pixels(3).half())
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert not features.requires_grad


def test_invalid_input_is_refused(encoder):
    x = pixels(4)
    with pytest.raises(BadInput, match=r"0\.\.1"):
        encoder.image_features(x * 255)
    with pytest.raises(NonFinite):
        encoder.image_features(x * torch.nan)
    for reads in (encoder.text_features, encoder.check_texts):
        with pytest.raises(BadInput, match="48"):
            reads(["a cat", "a very long story " * 30])
        with pytest.raises(BadInput, match="at least one"):
            reads([])
    encoder.check_texts(TEXTS)
    with pytest.raises(BadInput, match="one text for each"):
        encoder.score(x, TEXTS[:2])


def test_folders_without_clip_are_refused(tmp_path, folder):
    with pytest.raises(BadInput, match="nowhere"):
        DualEncoder.load(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="preprocessor_config"):
        DualEncoder.load(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("[]")
    with pytest.raises(BadInput, match="one JSON object"):
        DualEncoder.load(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
    model = save_clip(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="safetensors"):
        DualEncoder.load(tmp_path)


def test_old_preprocessor_file_with_single_numbers_is_read(tmp_path):
    save_clip(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    old = json.loads(file.read_text()) | {"size": 36, "crop_size": 32, "do_center_crop": True}
    file.write_text(json.dumps(old))
    assert DualEncoder.load(tmp_path).preprocessor(pixels(5, h=72, w=100)).shape == (3, 3, 32, 32)


def test_clip_without_its_vocabulary_is_refused(tmp_path):
    save_clip(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"has 2 tokens and its text encoder 553, so vocab\.json"):
        DualEncoder.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("do_normalize", False),
        ("do_rescale", False),
        ("do_resize", False),
        ("resample", 2),
        ("rescale_factor", 1 / 127.5),
    ],
)
def test_another_preprocessing_is_refused(name, value, tmp_path):
    save_clip(tmp_path, **{name: value})
    with pytest.raises(BadInput, match=f"{name} must be"):
        DualEncoder.load(tmp_path)


def test_device_by_name():
    assert Evaluator.load(device="auto").clip.model.device.type in ("cpu", "cuda")
    with pytest.raises(BadInput, match="There is no device"):
        Evaluator.load(device="gpu")
