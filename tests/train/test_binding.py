"""A run is resumed only with the settings and networks that its weights were trained with."""

import dataclasses
import json
import logging
import shutil

import pytest
import torch
from transformers import CLIPModel, CLIPTextModel

from sfumato.errors import BadInput
from sfumato.train import diffusion as module
from sfumato.train.binding import refuse_changes, weights_fingerprint
from sfumato.train.checkpoint import valid_checkpoints
from sfumato.train.frozen import text_fingerprint
from sfumato.train.loop import Run
from sfumato.train.start import build_task, start
from tests.tiny import text_config, tiny_tokenizer
from tests.train.conftest import write_image_folder
from tests.train.small import AUTOENCODER, DUAL_ENCODER, UNET, small_recipe, trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of an autoencoder "ae", two dual encoders of one width "d0" and "d1", and a diffusion run "df"."""
    root = tmp_path_factory.mktemp("runs")
    own = write_image_folder(root / "own")
    trained(small_recipe("autoencoder", own, 1, AUTOENCODER), root / "ae").export(root / "ae" / "export")
    for seed in (0, 1):
        recipe = dataclasses.replace(small_recipe("dual-encoder", own, 1, DUAL_ENCODER), seed=seed)
        trained(recipe, root / f"d{seed}").export(root / f"d{seed}" / "export")
    trained(diffusion(root), root / "df")
    return root


@pytest.fixture
def root(runs, tmp_path):
    """Copies of the runs "df" and "ae" that a test may change; all other folders stay where they were."""
    shutil.copytree(runs / "df", tmp_path / "df")
    shutil.copytree(runs / "ae", tmp_path / "ae")
    return tmp_path


def frozen(run):
    return {"start": str(run / "export"), "frozen": True}


def diffusion(runs, own=None, steps=1, network=None, **loss):
    built_on = {"autoencoder": str(runs / "ae" / "export"), "text": frozen(runs / "d0")}
    return small_recipe("diffusion", own or runs / "own", steps, UNET | built_on | (network or {}), **loss)


def again(recipe, folder):
    return Run(build_task(recipe, folder), recipe, folder, "cpu")


CHANGES = {
    "prediction": ({"prediction": "epsilon"}, {}, r"another loss\.prediction \(v_prediction, now epsilon\)"),
    "schedule": ({"schedule": "squaredcos_cap_v2"}, {}, r"another loss\.schedule \(linear, now squaredcos_cap_v2\)"),
    "betas": (
        {"beta_start": 2e-4, "beta_end": 0.012}, {},
        r"another loss\.beta_start \(0\.0001, now 0\.0002\) and another loss\.beta_end \(0\.02, now 0\.012\)",
    ),
    "heads": ({}, {"heads": (4, 8)}, r"another network\.heads \(\(2, 4\), now \(4, 8\)\)"),
    "groups": ({}, {"groups": 4}, r"another network\.groups \(8, now 4\)"),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "network", "sentence"), CHANGES.values(), ids=CHANGES.keys())
def test_changed_settings_of_equal_shapes_are_refused(runs, root, loss, network, sentence, monkeypatch):
    monkeypatch.setattr(module, "open_data", lambda *_: pytest.fail("the images were read first"))
    with pytest.raises(BadInput, match=sentence + r"; resume with .*own folder\.$"):
        again(diffusion(runs, steps=2, network=network, **loss), root / "df")


def test_another_dual_encoder_of_the_same_width_is_refused(runs, root):
    recipe = diffusion(runs, steps=2, network={"text": frozen(runs / "d1")})
    with pytest.raises(BadInput, match=r"another text encoder \([0-9a-f]{20}, now [0-9a-f]{20}\);"):
        again(recipe, root / "df")


def test_min_snr_and_condition_dropout_may_change(runs, root):
    run = again(diffusion(runs, steps=2, min_snr=5.0, condition_dropout=0.3), root / "df")
    assert [report.step for report in run.steps()] == [2]


@pytest.mark.parametrize(
    ("length", "vocabulary", "sentence"),
    [
        (None, None, "no model_max_length of at most 12 tokens"),
        (77, None, "no model_max_length of at most 12 tokens"),
        (12, 520, r"has \d+ tokens, but the text encoder there knows 520"),
    ],
)
def test_tokenizer_that_does_not_fit_its_text_encoder_is_refused(
    runs, tmp_path, monkeypatch, length, vocabulary, sentence
):
    monkeypatch.setattr(module, "open_data", lambda *_: pytest.fail("the images were read first"))
    shutil.copytree(runs / "d0" / "export", tmp_path / "d0" / "export")
    settings = tmp_path / "d0" / "export" / "tokenizer_config.json"
    table = json.loads(settings.read_text()) | {"model_max_length": length}
    settings.write_text(json.dumps({name: value for name, value in table.items() if value is not None}))
    if vocabulary:
        clip = CLIPModel.from_pretrained(tmp_path / "d0" / "export")
        clip.text_model.resize_token_embeddings(vocabulary)
        clip.config.text_config.vocab_size = vocabulary
        clip.save_pretrained(tmp_path / "d0" / "export")
    with pytest.raises(BadInput, match=sentence):
        build_task(diffusion(runs, network={"text": frozen(tmp_path / "d0")}), tmp_path / "run")


def test_changed_groups_of_an_autoencoder_run_are_refused(runs, root):
    recipe = small_recipe("autoencoder", runs / "own", 2, AUTOENCODER | {"groups": 4})
    with pytest.raises(BadInput, match=r"another network\.groups \(8, now 4\)"):
        again(recipe, root / "ae")


def test_diffusion_on_an_autoencoder_with_other_groups_is_refused(runs, root):
    """Its weights are the same, but its latents differ."""
    config = root / "ae" / "export" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"norm_num_groups": 4}))
    recipe = diffusion(runs, steps=2, network={"autoencoder": str(root / "ae" / "export")})
    with pytest.raises(BadInput, match=r"another encoder\.norm_num_groups \(8, now 4\)"):
        again(recipe, root / "df")


def test_latent_scale_is_kept_for_other_images(runs, root):
    before = again(diffusion(runs), root / "df").task.latents[:4]
    shutil.rmtree(root / "df" / "cache")
    shutil.copytree(runs / "own", root / "own")
    lines = (root / "own" / "metadata.jsonl").read_text().splitlines()
    (root / "own" / "metadata.jsonl").write_text("\n".join(lines[:4]))
    run = again(diffusion(runs, root / "own", steps=2), root / "df")
    torch.testing.assert_close(run.task.latents, before, rtol=1e-5, atol=1e-5)


def test_older_checkpoint_is_resumed_with_one_warning(runs, root, caplog):
    state = valid_checkpoints(root / "df" / "checkpoints")[-1] / "state.json"
    table = json.loads(state.read_text())
    table["bound_to"] = {"encoder": table["bound_to"]["encoder"]}
    state.write_text(json.dumps(table))
    with caplog.at_level(logging.WARNING):
        run = again(diffusion(runs, steps=2), root / "df")
    assert "does not record the encoder.norm_num_groups, text encoder, tokenizer, loss.prediction" in caplog.text
    list(run.steps())
    caplog.clear()
    again(diffusion(runs, steps=2), root / "df")
    assert "does not record" not in caplog.text
    with pytest.raises(BadInput, match=r"another loss\.prediction"):
        again(diffusion(runs, steps=3, prediction="epsilon"), root / "df")


@pytest.mark.parametrize("kind", ["dual-encoder", "diffusion"])
def test_recipe_of_another_kind_leaves_the_folder_unchanged(root, kind):
    (root / "recipe.toml").write_text(f'kind = "{kind}"\n[data]\nfolder = "nowhere"\n')
    before = sorted(root.rglob("*"))
    with pytest.raises(BadInput, match="contains a run of kind 'autoencoder'"):
        start(root / "recipe.toml", root / "ae", device="cpu")
    assert sorted(root.rglob("*")) == before


@torch.no_grad()
def test_changed_texts_are_shown_completely(tmp_path):
    """They may differ at their ends only; of fingerprints the first digits are enough."""
    before = {"loss.target": "a very long text about a red disc", "model": "a" * 64}
    now = {"loss.target": "a very long text about a red square", "model": "b" * 64}
    sentence = rf"\({before['loss.target']}, now {now['loss.target']}\) and another model \(a{{20}}, now b{{20}}\);"
    with pytest.raises(BadInput, match=sentence):
        refuse_changes(tmp_path, before, now)


def test_fingerprints_depend_on_weights_names_and_shapes():
    one = {"a": torch.arange(4.0), "b": torch.ones(2)}
    first = weights_fingerprint(one.items())
    assert weights_fingerprint(reversed(one.items())) == first
    assert weights_fingerprint((name, value.bfloat16()) for name, value in one.items()) == first
    others = [one | {"a": one["a"].view(2, 2)}, one | {"a": one["a"] + 1e-6}, {"a": one["a"], "c": one["b"]}]
    assert len({first, *(weights_fingerprint(other.items()) for other in others)}) == 4
    encoder = CLIPTextModel(text_config(tiny_tokenizer()))
    before = text_fingerprint(encoder)
    assert text_fingerprint(encoder) == before
    encoder.config.num_attention_heads *= 2
    assert text_fingerprint(encoder) != before
