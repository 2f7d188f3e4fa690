"""Training of a dual encoder: its tokenizer is kept, and mismatched parts are refused."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sfumato.errors import BadInput
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.clip_loss import Contrast, contrastive_loss
from sfumato.train.loop import Run
from sfumato.train.seeds import step_generator
from sfumato.train.start import build_task
from sfumato.train.tokenizer import tokenizer_fingerprint, train_tokenizer
from tests.train.conftest import write_image_folder
from tests.train.small import DUAL_ENCODER, small_recipe, trained


@pytest.fixture
def begun(tmp_path):
    """(recipe, run's folder, tokenizer's fingerprint) of a run that has a checkpoint; its captions have changed."""
    own = write_image_folder(tmp_path / "own")
    recipe = small_recipe("dual-encoder", own, 1, DUAL_ENCODER)
    run = trained(recipe, tmp_path / "run")
    lines = (own / "metadata.jsonl").read_text().replace("disc", "circle").replace("square", "box")
    (own / "metadata.jsonl").write_text(lines)
    return recipe, tmp_path / "run", tokenizer_fingerprint(run.task.tokenizer)


def again(recipe, folder):
    return Run(build_task(recipe, folder), recipe, folder, "cpu")


def test_run_keeps_its_tokenizer_when_captions_change(begun, tmp_path):
    recipe, folder, fingerprint = begun
    run = again(recipe, folder)
    assert run.step == 1
    assert tokenizer_fingerprint(run.task.tokenizer) == fingerprint
    assert run.task.batch(step_generator(0, 0, 0), 4)["ids"].shape == (4, DUAL_ENCODER["context"])
    other = again(recipe, tmp_path / "new")
    assert tokenizer_fingerprint(other.task.tokenizer) != fingerprint, "the captions do not matter to this test"


def test_run_without_a_checkpoint_trains_a_new_tokenizer(begun):
    recipe, folder, fingerprint = begun
    shutil.rmtree(folder / "checkpoints")
    assert tokenizer_fingerprint(again(recipe, folder).task.tokenizer) != fingerprint
    list(again(recipe, folder).steps())
    assert tokenizer_fingerprint(again(recipe, folder).task.tokenizer) != fingerprint


def test_tokenizer_of_another_run_is_refused(begun):
    recipe, folder, _ = begun
    train_tokenizer(["of another run"], 600, 12).save_pretrained(folder / "tokenizer")
    with pytest.raises(BadInput, match=r"trained with another tokenizer.*own folder"):
        again(recipe, folder)
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match=r"tokenizer in .* cannot be read") as caught:
        again(recipe, folder)
    assert "\n" not in str(caught.value)


def test_older_run_without_a_stored_tokenizer_is_resumed(begun, tmp_path):
    recipe, folder, fingerprint = begun
    recipe = small_recipe("dual-encoder", write_image_folder(tmp_path / "same as before"), 2, DUAL_ENCODER)
    shutil.rmtree(folder / "tokenizer")
    state = newest_checkpoint(folder / "checkpoints") / "state.json"
    state.write_text(json.dumps({k: v for k, v in json.loads(state.read_text()).items() if k != "bound_to"}))
    run = again(recipe, folder)
    list(run.steps())
    assert run.step == 2
    assert tokenizer_fingerprint(run.task.tokenizer) == fingerprint
    assert tokenizer_fingerprint(again(recipe, folder).task.tokenizer) == fingerprint


def test_image_encoder_is_trained_with_a_frozen_text_encoder(begun, tmp_path):
    recipe, folder, fingerprint = begun
    again(recipe, folder).export(tmp_path / "export")
    network = {"start": str(tmp_path / "export"), "freeze_text": True}
    run = trained(small_recipe("dual-encoder", tmp_path / "own", 2, network), tmp_path / "image encoder")
    assert tokenizer_fingerprint(run.task.tokenizer) == fingerprint
    before = dict(again(recipe, folder).task.clip.named_parameters())
    moved = {name for name, p in run.task.clip.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name.startswith(("text_model", "text_projection")) for name in moved)
    assert any(name.startswith("vision_model") for name in moved)


@pytest.mark.parametrize(
    ("network", "size", "sentence"),
    [
        ({"freeze_text": True}, 32, "needs network.start"),
        ({"start": "EXPORT"}, 24, r"data\.size must be 32"),
        ({"start": "EXPORT", "width": 128}, 32, r"network\.width = 128 is not that of .*, which has 64: leave it out"),
        ({"start": "EXPORT", "text_layers": 2}, 32, "which has 1"),
        ({"start": "EXPORT", "context": 13}, 32, "which has 12"),
        ({"start": "EXPORT", "vocabulary": 520}, 32, r"network\.vocabulary = 520"),
    ],
)
def test_invalid_start_settings_are_refused_before_the_images_are_decoded(
    begun, tmp_path, monkeypatch, network, size, sentence
):
    recipe, folder, _ = begun
    again(recipe, folder).export(tmp_path / "export")
    network = {key: str(tmp_path / "export") if value == "EXPORT" else value for key, value in network.items()}
    data = dataclasses.replace(recipe.data, size=size)
    monkeypatch.setattr("sfumato.train.dual_encoder.open_data", None)
    with pytest.raises(BadInput, match=sentence):
        build_task(dataclasses.replace(recipe, network=network, data=data), tmp_path / "x")


def test_temperature_beside_a_start_is_refused(begun, tmp_path):
    recipe, folder, _ = begun
    again(recipe, folder).export(tmp_path / "export")
    own = {"start": str(tmp_path / "export"), **DUAL_ENCODER}
    build_task(dataclasses.replace(recipe, network=own), tmp_path / "x")
    for kind in ("dual-encoder", "content"):
        changed = dataclasses.replace(recipe, kind=kind, network=own, loss={"temperature": 0.07})
        with pytest.raises(BadInput, match=r"loss\.temperature has no effect .* its own temperature \(0\.07"):
            build_task(changed, tmp_path / "x")


def test_batch_without_a_negative_is_refused(image_folder, tmp_path):
    with pytest.raises(BadInput, match=r"optim\.batch must be at least 2 per process, not 1"):
        build_task(small_recipe("dual-encoder", image_folder, 1, DUAL_ENCODER, batch=1), tmp_path / "run")


class Fixed(nn.Module):
    """A dual encoder whose features are given, with logits scaled by 100."""

    def __init__(self, images, texts):
        super().__init__()
        self.out = SimpleNamespace(image_embeds=images, text_embeds=texts)
        self.logit_scale = nn.Parameter(torch.tensor(100.0).log())

    def forward(self, **_):
        return self.out


def test_logits_and_loss_are_fp32_under_autocast():
    """The features are close together: bf16 logits near 100 cannot distinguish them."""
    angles = torch.linspace(0, 0.3, 24)
    images, texts = (torch.stack([a.cos(), a.sin()], 1) for a in (angles, angles + 1e-3))
    ids = torch.arange(24)[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        loss, scalars = Contrast(Fixed(images, texts))({"ids": ids, "mask": ids, "pixels": ids})
    expected, right = contrastive_loss(images.double(), texts.double(), ids, torch.tensor(100.0, dtype=torch.double))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert scalars["in_batch_precision"].item() == right.item() == 1
