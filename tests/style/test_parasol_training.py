"""Training of PARASOL: losses, triplets, the exported file."""

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model
from sfumato.style.describers import Describers
from sfumato.style.tokens import ModalityTokens, Parasol
from sfumato.train.checkpoint import MARKER, newest_checkpoint, write_checkpoint
from sfumato.train.fastest import with_fastest_precision
from sfumato.train.loop import Run
from sfumato.train.parasol import FILE, _check_model
from sfumato.train.parasol_text import start_from_text, text_embeddings
from sfumato.train.seeds import step_generator
from sfumato.train.start import build_task
from tests import tiny
from tests.style.small import CONTENT, STYLE, parasol_recipe, save_both, unit, write_triplets
from tests.tiny import fused
from tests.train.small import trained


@pytest.fixture
def recipe(image_folder, tiny_folder, encoders, describers, tmp_path):
    write_triplets(tmp_path / "t.parquet", image_folder, describers)
    return parasol_recipe(tmp_path / "t.parquet", image_folder, tiny_folder("sd"), encoders)


def test_loss_is_the_sum_of_three_terms(recipe, tmp_path, describers):
    task = build_task(recipe, tmp_path / "run")
    batch = task.batch(step_generator(0, 0, 0), 4)
    with torch.no_grad():
        for each in task.module.tokens.changes.weights:
            each += torch.randn(each.shape, generator=torch.Generator().manual_seed(1)) / 8
    loss, scalars = task.module(batch)
    loss.backward()
    model, abar = task.model, task.model.schedule.alphas_cumprod.float()[batch["t"]].reshape(-1, 1, 1, 1)
    x_t = abar.sqrt() * batch["x0"] + (1 - abar).sqrt() * batch["eps"]
    tokens = task.module.tokens(*(batch[name] for name in ("style", "content", "keep_style", "keep_content")))
    with fused(model.unet, task.module.tokens.changes.by_name):
        eps = model.unet(x_t, batch["t"], encoder_hidden_states=tokens).sample
    wanted = (eps - batch["eps"]).square().mean()
    torch.testing.assert_close(scalars["diffusion"], wanted.detach())
    seen = model.decode(((x_t - (1 - abar).sqrt() * eps) / abar.sqrt())[:2])
    seen = (seen.detach().clamp(-1, 1) + 1) / 2  # clipped to an image, as for the descriptors of an index
    described = {"style": describers.style.image_features(seen), "content": describers.content.image_features(seen)}
    for name, features in described.items():
        error = (features - batch[name][:2]).square().mean(1)
        part = (abar.flatten()[:2] * batch[f"keep_{name}"][:2] * error).mean()
        torch.testing.assert_close(scalars[name], part.detach(), rtol=1e-3, atol=1e-6)
        wanted = wanted + 100 * part
    torch.testing.assert_close(loss.detach(), wanted.detach(), rtol=1e-3, atol=1e-4)
    moved = {name for name, p in task.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {name for name, _ in task.module.named_parameters()}
    assert all(p.grad is None for p in model.unet.parameters())


def test_auto_precision_becomes_fp32_or_bf16(recipe, tmp_path):
    """The precision is measured on the task with its frozen model."""
    auto = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, precision="auto"))
    task = build_task(recipe, tmp_path / "run")
    assert with_fastest_precision(auto, task, torch.device("cpu")).run.precision in ("fp32", "bf16")


def test_exported_file_is_accepted_by_the_method(recipe, tmp_path, encoders, api_model, style_image, monkeypatch):
    monkeypatch.setattr("sfumato.train.parasol._STEPS", 2)
    run = trained(recipe, tmp_path / "run")
    run.task.sample(tmp_path / "run" / "samples", 2)
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    run.export(tmp_path / "export")
    options = {"parasol": str(tmp_path / "export" / FILE), "style": style_image}
    options |= {"content_encoder": str(encoders[0]), "style_encoder": str(encoders[1])}
    inverted = api_model.invert(tiny.tiny_image(32, 32), "red cat", method="parasol", steps=3)
    assert inverted.edit("", **options).pixels[0].shape == (32, 32, 3)


def test_killed_and_resumed_run_is_bit_identical(recipe, tmp_path, monkeypatch):
    """The copied folder is what a kill in the third step leaves: the newest checkpoint is that of step 2."""
    monkeypatch.setattr("sfumato.train.parasol_text._STEPS", 2)
    schedule = dataclasses.replace(recipe.run, steps=5, checkpoint_every=2)
    fitted = dataclasses.replace(recipe, run=schedule, network=recipe.network | {"captions": 100})
    whole = Run(build_task(fitted, tmp_path / "whole"), fitted, tmp_path / "whole", "cpu")
    for report in whole.steps():
        if report.step == 3:
            shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    assert newest_checkpoint(tmp_path / "killed" / "checkpoints").name == "step-00000002"
    trained(fitted, tmp_path / "killed")
    own, other = (newest_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "killed"))
    assert own.name == other.name == "step-00000005"
    files = {path.name for path in own.iterdir()}
    assert {"parasol.safetensors", "parasol.ema.safetensors", "parasol.optimizer.safetensors"} <= files
    assert all((own / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_invalid_triplets_are_refused(recipe, tmp_path, image_folder, describers, monkeypatch):
    """Everything but their images is checked before the model is loaded and the images are decoded."""

    def refused(sentence, **network):
        changed = dataclasses.replace(recipe, network=recipe.network | network)
        with pytest.raises(BadInput, match=sentence):
            build_task(changed, tmp_path / "x")

    table = pq.read_table(recipe.network["triplets"])
    pq.write_table(table.set_column(0, "output", [["elsewhere"] * len(table)]), tmp_path / "elsewhere.parquet")
    refused("No output image", triplets=str(tmp_path / "elsewhere.parquet"))
    monkeypatch.setattr("sfumato.train.parasol.load_model", None)
    refused("no file|There is no|cannot be read|does not exist", triplets=str(tmp_path / "nowhere.parquet"))
    (tmp_path / "text.parquet").write_text("text")
    refused("is not a table of triplets", triplets=str(tmp_path / "text.parquet"))
    other = Describers.load(*save_both(tmp_path / "other", seed=3))
    write_triplets(tmp_path / "other.parquet", image_folder, other)
    refused("content descriptors of another encoder", triplets=str(tmp_path / "other.parquet"))
    about = {"format": "sfumato.image-index.2"} | {n: {"fingerprint": "0"} for n in ("content", "style")}
    pq.write_table(table.replace_schema_metadata({"sfumato": json.dumps(about)}), tmp_path / "old.parquet")
    refused("from an index of another version: make the index again", triplets=str(tmp_path / "old.parquet"))


def test_triplets_without_images_are_logged_and_ignored(recipe, tmp_path, caplog):
    table = pq.read_table(recipe.network["triplets"])
    names = table["output"].to_pylist()
    changed = table.set_column(0, "output", [[*names[:-2], "elsewhere", "too"]])
    pq.write_table(changed, tmp_path / "some.parquet")
    folder = str(Path(recipe.data.folder, "..", Path(recipe.data.folder).name))
    data = dataclasses.replace(recipe.data, folder=folder)
    network = recipe.network | {"triplets": str(tmp_path / "some.parquet")}
    task = build_task(dataclasses.replace(recipe, data=data, network=network), tmp_path / "x")
    assert len(task.triplets.rows) == len(names) - 2
    assert f"2 of {len(names)} triplets are ignored" in caplog.text
    filters = {each.name for each in dataclasses.fields(recipe.data)} - {
        "folder",
        "size",
        "scenes",
        "scene_share",
        "crop",
    }
    assert {each for each in filters if each in caplog.text} == filters


def test_unsupported_networks_are_refused(recipe, tmp_path, tiny_folder):
    def inpainting(unet):
        unet.register_to_config(in_channels=2 * unet.config.in_channels + 1)

    def labelled(unet):
        unet.register_to_config(num_class_embeds=3)
        unet.class_embedding = torch.nn.Embedding(3, 4)

    with pytest.raises(BadInput, match="no SDXL, class labels or inpainting"):
        build_task(
            dataclasses.replace(recipe, network=recipe.network | {"model": str(tiny_folder("sdxl"))}), tmp_path / "x"
        )
    for change in (inpainting, labelled):
        model = load_model(str(tiny_folder("sd")))
        _check_model("sd", model)
        change(model.unet)
        changed = DiffusionModel(model.unet, model.codec, model.text_encoders, model.schedule)
        with pytest.raises(BadInput, match="no SDXL, class labels or inpainting"):
            _check_model("sd", changed)


def test_timesteps_have_the_distribution_of_the_recipe(recipe, tmp_path):
    narrow = dataclasses.replace(recipe, loss=recipe.loss | {"timesteps": "logit_normal", "logit_std": 1e-3})
    assert build_task(narrow, tmp_path / "run").batch(step_generator(0, 0, 0), 4)["t"].sub(500).abs().max() <= 2
    with pytest.raises(BadInput, match="timesteps must be"):
        build_task(dataclasses.replace(recipe, loss={"timesteps": "cosine"}), tmp_path / "x")


def test_tokens_start_from_text_embeddings(recipe, tmp_path, caplog, monkeypatch):
    """The tokens of training images start close to the embeddings of their captions."""
    monkeypatch.setattr("sfumato.train.parasol_text._STEPS", 300)
    caplog.set_level("INFO")
    plain = build_task(recipe, tmp_path / "plain")
    fitted = build_task(
        dataclasses.replace(recipe, network=recipe.network | {"captions": 100, "hidden": 64}), tmp_path / "run"
    )
    captions = [fitted.data.captions[row] for row in fitted.triplets.rows.tolist()]
    embedded = fitted.model.condition(captions).tokens
    tokens = fitted.module.tokens
    assert tokens.captions == len(set(captions))
    assert plain.module.tokens.captions == 0
    found = tokens.of(fitted.triplets.style, fitted.triplets.content, len(embedded))
    assert found.shape == embedded.shape
    assert (found - embedded).square().sum() < 0.1 * (embedded - embedded.mean(0)).square().sum()
    assert torch.equal(tokens.of(None, None, 1)[0], fitted.model.condition("").tokens[0])
    (sentence,) = [each for each in caplog.messages if "explain" in each]
    assert 90 <= int(sentence.split(" %")[0].split()[-1]) <= 100


def test_tokens_start_from_text_embeddings_unless_a_complete_checkpoint_exists(recipe, tmp_path, caplog, monkeypatch):
    """A checkpoint without its marker is never read, so a run that contains no other one begins anew."""
    monkeypatch.setattr("sfumato.train.parasol_text._STEPS", 2)
    caplog.set_level("INFO")
    fitted = dataclasses.replace(recipe, network=recipe.network | {"captions": 100})
    checkpoint = write_checkpoint(tmp_path / "run" / "checkpoints", 1, {}, {"samples": 4, "kind": "parasol"})
    build_task(fitted, tmp_path / "run")
    assert not [each for each in caplog.messages if "explain" in each]
    (checkpoint / MARKER).unlink()
    resumed, new = (build_task(fitted, tmp_path / name).module.tokens.state_dict() for name in ("run", "new"))
    assert len([each for each in caplog.messages if "explain" in each]) == 2
    assert all(torch.equal(resumed[name], new[name]) for name in new)


def test_a_part_of_the_captions_is_enough(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.train.parasol_text._STEPS", 2)
    network = recipe.network | {"captions": 2}
    tokens = build_task(dataclasses.replace(recipe, network=network), tmp_path / "run").module.tokens
    assert tokens.content[0].weight.shape[0] == tokens.captions == 2


def test_style_is_the_difference_of_captions_with_and_without_it(model, describers, monkeypatch):
    """With a corpus of styles, m_s moves the tokens from the caption without the style to the one with it."""
    monkeypatch.setattr("sfumato.train.parasol_text._STEPS", 300)
    style, content = unit(2, STYLE).repeat(3, 1), describers.content.text_features(["red", "blue", "cat"])
    content = content.repeat_interleave(2, 0)
    captions = [(name, f"{name} {word}") for name in ("red", "blue", "cat") for word in ("big", "small")]
    length = text_embeddings(model, [""]).shape[1]
    with tiny.seeded(0):
        tokens = ModalityTokens(STYLE, CONTENT, 64, model.token_width, length, length, captions=3)
    error = start_from_text(tokens, model, describers, style, content, captions, 0)
    plain, styled = (text_embeddings(model, [pair[k] for pair in captions]) for k in (0, 1))

    def relative(found, wanted):
        return float((found - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum())

    right, swapped = tokens.of(style, content, 6), tokens.of(style.flip(0), content, 6)
    assert relative(tokens.of(None, content, 6), plain) < 0.2
    assert relative(right, styled) < 0.2
    assert 1.5 * relative(right, styled) < relative(swapped, styled)
    assert error == pytest.approx(relative(right, styled), rel=1e-4)


def test_training_starts_from_a_file(recipe, tmp_path, encoders):
    """The weights are those of the file, also for a model whose weights have changed since; other sizes are refused."""
    trained(recipe, tmp_path / "first").export(tmp_path / "export")
    path = tmp_path / "export" / FILE
    saved = Parasol.load(path)
    dataclasses.replace(saved, model="another").save(path)
    task = build_task(dataclasses.replace(recipe, network=recipe.network | {"start": str(path)}), tmp_path / "second")
    own = task.module.tokens.state_dict()
    assert own.keys() == saved.tokens.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in saved.tokens.state_dict().items())
    assert any(
        (own[name] != value).any()
        for name, value in build_task(recipe, tmp_path / "new").module.tokens.state_dict().items()
    )
    assert all(weight.requires_grad for weight in task.module.tokens.parameters())
    assert task.parasol().model == task.model.fingerprint() != "another"
    for change, found in (({"hidden": 8}, "hidden 16, here 8"), ({"key_value": False}, "key_value layers")):
        changed = dataclasses.replace(recipe, network=recipe.network | {"start": str(path)} | change)
        with pytest.raises(BadInput, match=found):
            build_task(changed, tmp_path / "third")
