"""The caption report: losses against a separate computation, and the gap of models that use or ignore captions."""

import json

import pytest
import torch
import torch.nn.functional as F

from sfumato.core.noise import gaussian_batch
from sfumato.models.load import load_model
from sfumato.train import caption_report as module
from sfumato.train.dataset import open_images
from sfumato.train.recipe import load_recipe
from tests.train.test_held_out import corpus  # noqa: F401 (a fixture)
from tests.train.test_report import pipeline  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def model(pipeline):  # noqa: F811
    return load_model(pipeline[0], "cpu")


@pytest.fixture(scope="module")
def data(pipeline):  # noqa: F811
    chosen = open_images(load_recipe(pipeline[1], "diffusion"), "train", 6)
    return torch.from_numpy(chosen.images).float() / 255, chosen.captions


def test_losses_equal_a_separate_computation(model, data):
    images, captions = data
    figures = module.caption_report(model, images, captions)
    x0 = model.encode(images * 2 - 1)
    for t, row in figures.items():
        abar = model.schedule.alphas_cumprod[int(t)]
        noise = gaussian_batch(x0.shape[1:], range(len(x0)), step=int(t), tag="edit-friendly")
        x = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
        for name, texts in {"caption": list(captions), "empty": [""] * len(x0)}.items():
            loss = F.mse_loss(model.predict(x, int(t), model.condition(texts)), noise)
            assert row[name] == pytest.approx(float(loss), rel=1e-3)
    assert list(figures) == ["100", "300", "500", "700", "900"]


def test_a_model_that_ignores_captions_has_no_gap(model, data, monkeypatch):
    monkeypatch.setattr(model, "predict", lambda x, t, condition: torch.zeros_like(x))
    assert all(row["gap"] == row["error"] == 0 for row in module.caption_report(model, *data).values())


def test_the_gap_is_what_the_caption_removes_with_a_jackknife_error(model, data, monkeypatch):
    images, captions = data
    factors = torch.linspace(0.1, 0.9, len(images))

    def predict(x, t, condition):
        empty = torch.equal(condition.tokens, model.condition([""] * len(x)).tokens)
        return torch.zeros_like(x) if empty else 1 - factors[:, None, None, None].expand_as(x)

    monkeypatch.setattr(model, "predict", predict)
    monkeypatch.setattr(module, "independent_latents", lambda _, x0, timesteps, seeds: ones(model, x0, timesteps))
    for row in module.caption_report(model, images, captions).values():
        assert row["empty"] == pytest.approx(1, rel=1e-4)
        assert row["gap"] == pytest.approx(1 - float((factors**2).mean()), abs=1e-4)
        # The loss without caption is constant, so that the jackknife is the standard error of the mean.
        assert row["error"] == pytest.approx(float((factors**2).std() / len(factors) ** 0.5), rel=1e-3)


def ones(model, x0, timesteps):
    """Latents whose noise is 1 everywhere."""
    abars = [model.schedule.abar(t) for t in timesteps]
    return torch.stack([*(abar**0.5 * x0 + (1 - abar) ** 0.5 for abar in abars), x0])


def test_the_command_writes_the_figures(pipeline, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "captions.json"
    words = [str(pipeline[0]), "--recipe", str(pipeline[1]), "--out", str(out), "--device", "cpu"]
    assert module.main([*words, "--count", "4"]) == 0
    figures = json.loads(out.read_text())
    assert (figures["split"], figures["images"]) == ("train", 4)
    assert json.loads(capsys.readouterr().out) == figures


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(["--count", "1"], "--count must be 2 or more"), (["--out", "nowhere/c.json"], "nowhere does not exist")],
)
def test_invalid_options_are_refused_before_any_work(pipeline, tmp_path, capsys, monkeypatch, change, sentence):  # noqa: F811
    """One image has no standard error."""
    monkeypatch.setattr(module, "open_images", None)
    words = [str(pipeline[0]), "--recipe", str(pipeline[1]), "--out", str(tmp_path / "c.json"), *change]
    with pytest.raises(SystemExit):
        module.main(words)
    assert sentence in capsys.readouterr().err
