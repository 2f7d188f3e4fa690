"""`sfumato metrics`: prints the values of the evaluator, and rejects invalid input with one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.images import read_image, read_mask
from sfumato.metrics import METRICS, Evaluator
from sfumato.style.encoder import load_style_encoder
from sfumato.style.files import FILE
from tests.metrics.test_text import save_clip
from tests.style.small import style_encoder
from tests.tiny import tiny_image

TEXTS = ("--from", "red apple", "--to", "green apple")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture
def pair(folder):
    """photo.png, two other images of its size, and a mask of its left half."""
    for name, seed in (("edit.png", 1), ("target.png", 2)):
        tiny_image(30, 22, seed=seed).save(folder / name)
    mask = np.zeros((22, 30), np.uint8)
    mask[:, :15] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


def unit(path):
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None] / 255


def test_json_contains_the_values_of_the_evaluator(sfumato, pair, clip):
    (pair / "encoder").mkdir()
    style_encoder().save(pair / "encoder" / FILE)
    given = ("--target", "target.png", "--mask", "mask.png", "--clip", clip, "--json")
    given += ("--style", "photo.png", "--style-encoder", "encoder")
    found = sfumato("metrics", "photo.png", "edit.png", *TEXTS, *given).json
    mask = torch.zeros(22, 30)
    mask[:, :15] = 1
    images = [unit(pair / name) for name in ("photo.png", "edit.png", "target.png")]
    evaluator = Evaluator.load(clip, style=load_style_encoder(pair / "encoder"))
    expected = evaluator(
        *images[:2], target=images[2], mask=mask, source_texts=["red apple"], target_texts=["green apple"],
        style=list(images[0]),
    )  # fmt: skip
    assert list(found["metrics"]) == list(METRICS)
    for name, value in expected.items():
        assert found["metrics"][name] == pytest.approx(value.item(), rel=1e-4, abs=1e-6), name
    assert found["better"]["outside_psnr"] == "higher"
    assert (found["from"], found["to"], found["mask"]) == ("red apple", "green apple", "mask.png")


def test_table_contains_the_help_of_each_metric(sfumato, pair, clip):
    run = sfumato("metrics", "photo.png", "photo.png", "--clip", clip)
    assert run.code == 0
    lines = run.out.splitlines()
    assert [line.split()[0] for line in lines] == ["metric", "mse", "psnr", "ssim", "lpips", "structure"]
    assert lines[2].split()[:4] == ["psnr", "inf", "dB", "higher"]
    assert all(METRICS[line.split()[0]].help in line for line in lines[1:])


def test_infinite_and_undefined_metrics_are_null_in_json(sfumato, pair, clip):
    Image.new("L", (30, 22), 255).save(pair / "full.png")
    run = sfumato("metrics", "photo.png", "photo.png", "--mask", "full.png", "--clip", clip, "--json")
    found = json.loads(run.out)["metrics"]
    assert found["psnr"] is None
    assert found["outside_mse"] is None
    assert found["mse"] == 0
    assert "full.png is all white" in run.err
    Image.new("L", (30, 22), 128).save(pair / "grey.png")
    run = sfumato("metrics", "photo.png", "edit.png", "--mask", "grey.png", "--clip", clip, "--json")
    found = json.loads(run.out)["metrics"]
    assert found["outside_mse"] == pytest.approx(found["mse"])
    assert "grey.png is uniformly grey" in run.err


def test_masks_are_read_as_for_edits(sfumato, pair, clip):
    """A mask that an edit accepts with a flag is accepted for its metrics, too."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for name in ("a.png", "b.png"):
        tiny_image(64, 64).save(pair / name)
    Image.fromarray(noise).save(pair / "heat.png")
    holed = tiny_image(64, 64).convert("RGB")
    holed.putalpha(Image.fromarray(255 - noise))
    holed.save(pair / "holed.png")
    words = ("metrics", "a.png", "b.png", "--clip", clip, "--json", "--mask")
    assert "--mask-as-is" in sfumato(*words, "heat.png").refused()
    assert sfumato(*words, "heat.png", "--mask-as-is").code == 0
    assert sfumato(*words, "holed.png", "--mask-transparent", "--mask-as-is").code == 0


def test_invalid_input_is_rejected_before_loading_networks(sfumato, pair, monkeypatch):
    monkeypatch.setattr(Evaluator, "load", lambda *_: pytest.fail("a network was loaded"))
    tiny_image(30, 20).save(pair / "small.png")
    assert "30 x 20 pixels and photo.png 30 x 22" in sfumato("metrics", "photo.png", "small.png").refused()
    assert "small.png" in sfumato("metrics", "photo.png", "edit.png", "--mask", "small.png").refused()
    assert "small.png" in sfumato("metrics", "photo.png", "edit.png", "--target", "small.png").refused()
    assert "--to" in sfumato("metrics", "photo.png", "edit.png", "--from", "red apple").refused()
    assert "needs --style" in sfumato("metrics", "photo.png", "edit.png", "--style-encoder", "x").refused()
    for flag in ("--mask-as-is", "--mask-transparent"):
        assert f"{flag} needs --mask" in sfumato("metrics", "photo.png", "edit.png", flag).refused()
    assert "nowhere.png" in sfumato("metrics", "photo.png", "nowhere.png").refused()
    assert "--to is empty" in sfumato("metrics", "photo.png", "edit.png", "--to", " ").refused()


def test_unusable_networks_and_prompts_are_rejected(sfumato, pair, clip):
    assert "nowhere" in sfumato("metrics", "photo.png", "edit.png", "--clip", "nowhere").refused()
    assert "lpips" in sfumato("metrics", "photo.png", "edit.png", "--clip", clip, "--lpips", "vgg").refused().lower()
    long = "a very long story " * 30
    assert "shorten" in sfumato("metrics", "photo.png", "edit.png", "--clip", clip, "--to", long).refused()
    for words in (("--to", "<|endoftext|>"), ("--from", "<|endoftext|>", "--to", "apple")):
        refused = sfumato("metrics", "photo.png", "edit.png", "--clip", clip, *words).refused()
        assert f'{words[0]} "<|endoftext|>" has no words' in refused


def test_max_pixels_applies_to_all_images(sfumato, pair, clip, monkeypatch):
    """The default limits are patched below the image size, so a read without the option would fail."""
    for reader in (read_image, read_mask):
        monkeypatch.setattr(reader, "__defaults__", (100,))
    given = ("--target", "target.png", "--mask", "mask.png", "--clip", clip, "--max-pixels", 660)
    assert sfumato("metrics", "photo.png", "edit.png", *given).code == 0
