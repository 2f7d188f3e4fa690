"""The report of a trained pipeline: every figure against a separate computation, for every split."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.metrics import DualEncoder, feature_distance, psnr, r_precision, ssim
from sfumato.models.bundled import bundled_path
from sfumato.models.load import load_model
from sfumato.train import report as module
from sfumato.train import report_options
from sfumato.train.card import _precision, card
from sfumato.train.generated import generate, readable
from sfumato.train.loop import Run
from sfumato.train.recipe import DataRecipe, Recipe, RunRecipe
from sfumato.train.report_options import folder_of
from tests.train.test_held_out import corpus, tasks  # noqa: F401 (a fixture)

RECIPE = """
kind = "diffusion"
[data]
folder = "{folder}"
size = 32
tones = false
[network]
autoencoder = ""
"""


@pytest.fixture(scope="module")
def pipeline(corpus, tmp_path_factory):  # noqa: F811
    """A pipeline of untrained networks with training summaries, and the recipe of its images."""
    folder = tmp_path_factory.mktemp("pipeline")
    parts = tasks(corpus, folder)
    for task, kind, name in zip(
        parts, ("autoencoder", "dual-encoder", "diffusion"), ("autoencoder", "dual", "model"), strict=True
    ):
        recipe = Recipe(kind, data=DataRecipe(folder=str(corpus), size=32), run=RunRecipe(precision="fp32"))
        Run(task, recipe, folder / "runs" / name, "cpu").export(folder / name)
    (folder / "recipe.toml").write_text(RECIPE.format(folder=corpus))
    return folder / "model", folder / "recipe.toml"


@pytest.fixture(scope="module")
def measured(pipeline):
    """(printed text, figures)"""
    folder, recipe = pipeline
    out = folder.parent / "report.json"
    arguments = [str(folder), "--recipe", str(recipe), "--out", str(out), "--count", "3", "--real", "5", "--steps", "2"]
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", printed.append)
        assert module.main([*arguments, "--device", "cpu", "--grid", str(folder.parent / "grid.png")]) == 0
    return printed[0], json.loads(out.read_text())


def test_figures_equal_separate_computations(pipeline, measured, corpus):  # noqa: F811
    folder, _ = pipeline
    model, evaluator = load_model(folder, "cpu"), DualEncoder.load(folder / "dual_encoder")
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    for split in ("train", "cells", "test"):
        found = measured[1][split]
        whole = CaptionedImages.open(corpus, 32, split=split, count=5)
        images = torch.from_numpy(whole.images).float() / 255
        with torch.no_grad():
            decoded = (vae.decode(vae.encode(images * 2 - 1).latent_dist.mode()).sample.clamp(-1, 1) + 1) / 2
        assert found["everything"]["images"] == len(images)
        assert found["everything"]["psnr"] == pytest.approx(psnr(images, decoded).mean().item(), abs=1e-3)
        assert found["everything"]["ssim"] == pytest.approx(ssim(images, decoded).mean().item(), abs=1e-4)
        few = CaptionedImages.open(corpus, 32, split=split, count=3, tones=False)
        drawn = generate(model, few.captions, 32, 4.0, 2)
        assert drawn.shape == (len(few), 3, 32, 32)
        real, texts = (
            evaluator.image_features(torch.from_numpy(few.images).float() / 255),
            evaluator.text_features(few.captions),
        )
        made, candidates = evaluator.image_features(drawn), len(few)
        assert 1 < candidates <= 3
        trained = found["trained"]
        for name, features in (("r_precision", real), ("generated r_precision", made)):
            expected = r_precision(features, texts, few.captions, candidates)
            assert trained[name] == {"at 1": pytest.approx(expected, abs=1e-4), "candidates": candidates}
        assert trained["frechet"] == pytest.approx(feature_distance(made, real), abs=1e-3)
        assert trained["seconds per image"] >= 0
    assert measured[1]["settings"] == {
        "guidance_scale": 4.0, "steps": 2, "size": 32, "device": "cpu", "threads": torch.get_num_threads()}  # fmt: skip


def test_parts_have_sizes_and_training_summaries(pipeline, measured):
    folder, _ = pipeline
    parts = measured[1]["parts"]
    assert parts["."]["megabytes"] == pytest.approx(
        sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6, abs=0.1
    )
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    assert parts["vae"]["parameters"] == sum(p.numel() for p in vae.parameters())
    assert parts["."]["parameters"] == sum(parts[name]["parameters"] for name in parts if name != ".")
    kinds = {name: part["training"] and part["training"]["kind"] for name, part in parts.items()}
    assert kinds == {
        ".": "diffusion", "vae": "autoencoder", "dual_encoder": "dual-encoder", "unet": None, "text_encoder": None
    }  # fmt: skip


def test_printed_tables_contain_the_figures(measured):
    printed, figures = measured
    rows = {}
    for line in printed.splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[name] = cells
    vae = figures["parts"]["vae"]
    sizes = [f"{vae['parameters']:,}", f"{vae['megabytes']:.1f}"]
    assert rows["autoencoder"] == [*sizes, "0", f"{vae['training']['pictures']:,}", "0", "cpu"]
    assert rows["autoencoder PSNR, all styles"] == [
        f"{figures[split]['everything']['psnr']:.1f} dB" for split in ("train", "cells", "test")
    ]
    precision = figures["test"]["trained"]["generated r_precision"]
    assert rows["R-precision of generated images"][2] == f"{100 * precision['at 1']:.0f} % of {precision['candidates']}"
    assert {"seconds per generated image", "Frechet distance of generated to real", "U-Net"} <= rows.keys()


def test_card_includes_earlier_training_and_missing_records():
    before = {"samples": 1000, "seconds": 60.0, "pictures": 10, "device": "cpu"}
    story = {"samples": 500, "seconds": 120.0, "pictures": 10, "device": "cpu", "start": before}
    parts = {
        ".": {"megabytes": 2.0, "parameters": 9999, "training": None},
        "vae": {"megabytes": 1.5, "parameters": 1234, "training": story},
        "dual_encoder": {"megabytes": 0.25, "parameters": 50, "training": None},
        "unet": {"megabytes": 0.5, "parameters": 100, "training": None},
    }
    text = card({"parts": parts, "settings": {}})
    assert "| autoencoder | 1,234 | 1.5 | 500 after 1,000 | 10 | 3 | cpu |" in text
    assert "| U-Net | 100 | 0.5 | not recorded" in text
    assert "| complete folder | 9,999 | 2.0 |" in text
    del parts["dual_encoder"]
    without = card({"parts": parts, "settings": {}})
    assert without.splitlines() == [line for line in text.splitlines() if not line.startswith("| dual encoder")]


def test_split_without_images_is_left_out(pipeline, image_folder):
    folder, _ = pipeline
    recipe = Recipe("diffusion", data=DataRecipe(folder=str(image_folder), size=32))
    figures = module.report(load_model(folder), DualEncoder.load(folder / "dual_encoder"), recipe, 2, 2, 3.0, 1)
    assert figures.keys() == {"settings", "train"}


def check_grid(path, real, drawn):
    """Check that a grid has rows of up to 16 real images, each above the row of the images drawn for them.

    The images have 32 x 32 pixels and are followed by gaps of 12 pixels to the right and below.
    """
    rows = [part for pair in zip(real.split(16), drawn.split(16), strict=True) for part in pair]
    grid = np.asarray(Image.open(path))[-44 * len(rows) :, 12:]
    cells = grid.reshape(len(rows), 44, len(rows[0]), 44, 3)[:, :32, :, :32].swapaxes(1, 2).astype(float)
    for found, part in zip(cells, rows, strict=True):
        levels = 255 * part.permute(0, 2, 3, 1).numpy()
        assert np.abs(found[: len(part)] - levels).max() < 0.5 + 1e-3, "rounded to 8 bits"
        assert (found[len(part) :] == 255).all()


def test_grid_contains_the_images_generated_from_the_captions(pipeline, measured, corpus):  # noqa: F811
    folder, _ = pipeline
    data = CaptionedImages.open(corpus, 32, split="train", count=64, tones=False)
    real = torch.from_numpy(data.images).float() / 255
    drawn = generate(load_model(folder, "cpu"), data.captions, 32, 4.0, 2)
    assert len(data) > 16
    for images in (real, drawn):
        assert torch.cdist(images.flatten(1), images.flatten(1), p=torch.inf).fill_diagonal_(1).min() > 2 / 255
    check_grid(folder.parent / "grid.png", real, drawn)


def test_grid_with_fewer_images_than_a_row_is_in_the_order_of_the_captions(
    pipeline, image_folder, tmp_path, monkeypatch
):
    colours = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = CaptionedImages.open(image_folder, 32, split="train", count=64)
    drawn = dict(zip(data.captions, colours, strict=True))

    def draw(model, captions, size, guidance_scale, steps):
        assert (size, guidance_scale, steps) == (32, 3.0, 1)
        return torch.stack([drawn[caption] for caption in captions])

    monkeypatch.setattr(module, "generate", draw)
    recipe = Recipe("diffusion", data=DataRecipe(folder=str(image_folder), size=32))
    module.show(load_model(pipeline[0]), recipe, tmp_path / "grid.png", 3.0, 1)
    check_grid(tmp_path / "grid.png", torch.from_numpy(data.images).float() / 255, colours)


def test_report_is_written_before_the_grid_is_drawn(pipeline, tmp_path, monkeypatch):
    def fail(*_):
        raise BadInput("no grid")

    monkeypatch.setattr(module, "report", lambda *_: {"measured": 1})
    monkeypatch.setattr(module, "show", fail)
    out = tmp_path / "report.json"
    with pytest.raises(SystemExit):
        module.main([str(pipeline[0]), "--recipe", str(pipeline[1]), "--out", str(out), "--grid", "grid.png"])
    assert json.loads(out.read_text())["measured"] == 1


def test_captions_are_cut_to_the_text_encoder_length(pipeline):
    evaluator = DualEncoder.load(pipeline[0] / "dual_encoder")
    assert readable(evaluator, "face 1, noto") == "face 1, noto"
    short = readable(evaluator, "face " * 200)
    assert 1 < len(short.split()) < 200
    evaluator.text_features([short])
    with pytest.raises(BadInput, match="shorten it"):
        evaluator.text_features([f"{short} face"])


def test_bundled_name_takes_precedence_over_a_local_folder(pipeline, tmp_path, monkeypatch):
    shutil.copytree(pipeline[0] / "dual_encoder", tmp_path / "emoji" / "dual_encoder")
    monkeypatch.chdir(tmp_path)
    assert folder_of("emoji") == bundled_path("emoji")
    assert folder_of("./emoji") == Path("emoji")


def test_model_without_evaluator_needs_the_evaluator_option(pipeline, tmp_path, capsys, monkeypatch):
    folder, recipe = pipeline
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("dual_encoder"))
    given = [str(tmp_path / "model"), "--recipe", str(recipe), "--out", str(tmp_path / "report.json")]
    with pytest.raises(SystemExit):
        module.main(given)
    assert "no pipeline with a dual_encoder" in capsys.readouterr().err
    monkeypatch.setattr(module, "report", lambda model, evaluator, *_: {"width": evaluator.model.config.projection_dim})
    monkeypatch.setattr(module, "card", json.dumps)
    assert module.main([*given, "--evaluator", str(folder / "dual_encoder")]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["width"] > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--count", "0"], "--count must be 1 or more, not 0"),
        (["--real", "-1"], "--real must be 1 or more"),
        (["--steps", "0"], "--steps must be 1 or more"),
        (["--out", "nowhere/x.json"], "nowhere does not exist: create it first"),
        (["--grid", "."], "give the name of a PNG file"),
        (["--recipe", "none.toml"], "cannot read the recipe"),
    ],
)
def test_invalid_arguments_are_refused_before_the_model_is_loaded(
    pipeline, tmp_path, capsys, monkeypatch, change, words
):
    folder, recipe = pipeline
    monkeypatch.setattr(report_options, "load_model", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        module.main([str(folder), "--recipe", str(recipe), "--out", str(tmp_path / "x.json"), *change])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("share", "text"), [(0.0, "0 %"), (0.003, "0.3 %"), (0.01, "1 %"), (1, "100 %")])
def test_small_precisions_are_not_rounded_to_zero(share, text):
    assert _precision({"at 1": share, "candidates": 100}) == text
    assert _precision({"at 1": share, "candidates": 89}) == f"{text} of 89"
