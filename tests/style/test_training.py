"""Training of the two encoders: batches, losses, folders, refusals."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.metrics.text import DualEncoder
from sfumato.style.encoder import load_style_encoder
from sfumato.style.files import FILE
from sfumato.train.clip_loss import contrastive_loss
from sfumato.train.contrast import Grid, Labels, nearest_is_right, numbers, supervised_contrastive
from sfumato.train.seeds import step_generator
from sfumato.train.start import build_task
from sfumato.train.views import crops, recoloured
from tests.train.conftest import write_image_folder
from tests.train.small import DUAL_ENCODER, small_recipe, trained

STYLE = {"channels": (8, 16, 16), "dimension": 8, "least": 2}


def unit(n, d, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double), dim=1)


def test_contrastive_loss_equals_equation_2():
    """Term by term, in Python."""
    z, labels, tau = unit(7, 4), [0, 1, 0, 2, 1, 0, 3], 0.3
    total, anchors = 0.0, 0
    for i in range(7):
        positives = [p for p in range(7) if p != i and labels[p] == labels[i]]
        below = sum(np.exp(float(z[i] @ z[a]) / tau) for a in range(7) if a != i)
        if positives:
            anchors += 1
            total -= np.mean([np.log(np.exp(float(z[i] @ z[p]) / tau) / below) for p in positives])
    found = supervised_contrastive(z, torch.tensor(labels), tau)
    assert found.item() == pytest.approx(total / anchors, rel=1e-12)


def test_contrastive_loss_gradient_equals_finite_differences():
    z, labels = unit(5, 3).requires_grad_(True), torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda z: supervised_contrastive(z, labels, 0.5), z)


def test_loss_without_positives_is_zero():
    assert supervised_contrastive(unit(3, 4), torch.arange(3), 0.1).item() == 0


def test_nearest_is_right_is_the_share_of_matches():
    z = F.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), dim=1)
    assert nearest_is_right(z, torch.tensor([0, 0, 1, 2])).item() == 0.5


def test_grid_draws_different_styles_of_a_content_first():
    """Of four images of one content, two are in style 0 (e.g. two skin tones), and one each in styles 1 and 2."""
    labels = Labels(torch.zeros(4, dtype=torch.long), torch.tensor([0, 0, 1, 2]))
    drawn = Grid(labels, views=3)(torch.Generator().manual_seed(0), 300).reshape(-1, 3)
    assert all(set(labels.style[rows].tolist()) == {0, 1, 2} for rows in drawn)
    assert set(drawn.flatten().tolist()) == {0, 1, 2, 3}
    every = Grid(labels, views=4)(torch.Generator().manual_seed(0), 40).reshape(-1, 4)
    assert all(sorted(rows.tolist()) == [0, 1, 2, 3] for rows in every)
    more = Grid(labels, views=6)(torch.Generator().manual_seed(0), 6)
    assert len(set(more[:4].tolist())) == 4
    assert len(more) == 6


def test_grid_draws_several_images_of_every_content():
    content = numbers(["a", "b", "a", "c", "a", "b"])
    grid = Grid(Labels(content, None), views=2)
    rows = grid(torch.Generator().manual_seed(0), 200)
    pairs = rows.reshape(-1, 2)
    assert torch.equal(content[pairs[:, 0]], content[pairs[:, 1]])
    assert set(content[rows].tolist()) == {0, 1, 2}
    for one, other in pairs.tolist():
        assert one != other or content[one] == 2  # only c has a single image
    assert len(grid(torch.Generator().manual_seed(0), 7)) == 7


def test_recoloured_keeps_grey_and_strength_zero_changes_nothing():
    draw = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(4, 3, 8, 8, generator=draw) - 1
    pale = 0.05 * x  # no colour is clipped
    torch.testing.assert_close(recoloured(pale, draw, 0.7).mean(1), pale.mean(1))
    torch.testing.assert_close(recoloured(x, draw, 0.0), x)
    grey = x.mean(1, keepdim=True).expand_as(x)
    torch.testing.assert_close(recoloured(grey, draw, 0.7), grey)
    assert (recoloured(x, draw, 0.7) - x).abs().mean() > 0.05


def test_full_crop_is_the_image_or_its_mirror():
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(16, 3, 8, 8, generator=draw)
    found = crops(x, draw, 1.0)
    kept = [(found[i] - x[i]).abs().max() < 1e-5 for i in range(16)]
    mirrored = [(found[i] - x[i].flip(-1)).abs().max() < 1e-5 for i in range(16)]
    assert all(a != b for a, b in zip(kept, mirrored, strict=True))
    assert any(kept)
    assert any(mirrored)


@pytest.fixture(scope="module")
def styled(tmp_path_factory):
    """Eight images in each of two style folders: filled shapes, and stripes."""
    folder = tmp_path_factory.mktemp("styles") / "own"
    lines = []
    source = write_image_folder(folder.parent / "plain")
    for line in (source / "metadata.jsonl").read_text().splitlines():
        entry = json.loads(line)
        pixels = np.asarray(Image.open(source / entry["file_name"])).copy()
        for style in ("filled", "striped"):
            (folder / style).mkdir(parents=True, exist_ok=True)
            if style == "striped":
                pixels[::3] = 255
            Image.fromarray(pixels).save(folder / style / entry["file_name"])
            lines.append(
                json.dumps({"file_name": f"{style}/{entry['file_name']}", "text": f"{entry['text']}, {style}"})
            )
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_trained_style_encoder_separates_two_styles(styled, tmp_path):
    recipe = small_recipe("style", styled, 40, STYLE, batch=16, lr=1e-2, labels="folders")
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, size=16))
    run = trained(recipe, tmp_path / "run")
    run.export(tmp_path / "export")
    encoder = load_style_encoder(tmp_path / "export")
    assert {"filled", "striped"} <= set(encoder.words.words)
    data = CaptionedImages.open(styled, size=16, split="train")
    pixels = torch.from_numpy(data.images).float() / 255
    style = numbers([file.split("/")[0] for file in data.table["file"].to_pylist()])
    assert nearest_is_right(encoder.image_features(pixels), style) > 0.9
    words = encoder.text_features(["filled", "striped"])
    nearest = (encoder.image_features(pixels) @ words.T).argmax(1)
    names = [file.split("/")[0] for file in data.table["file"].to_pylist()]
    assert [("filled", "striped")[i] for i in nearest.tolist()] == names
    again = build_task(recipe, tmp_path / "run")
    assert not torch.equal(again.network.convs[0].weight, run.task.network.convs[0].weight), "nothing was learnt"
    started = dataclasses.replace(recipe, network=STYLE | {"start": str(tmp_path / "export")})
    assert torch.equal(build_task(started, tmp_path / "x").network.convs[0].weight, encoder.network.convs[0].weight)


def test_folder_labels_draw_different_images_of_a_folder(styled, tmp_path):
    recipe = small_recipe("style", styled, 1, STYLE, batch=8, labels="folders", views=4)
    task = build_task(recipe, tmp_path / "run")
    rows = torch.cat([task.grid(step_generator(0, step, 0), 8) for step in range(20)]).reshape(-1, 4)
    assert all(len(set(group.tolist())) == 4 and len(task.styles[group].unique()) == 1 for group in rows)
    assert set(rows.flatten().tolist()) == set(range(task.image_count))


def test_crops_of_one_image_are_refused(image_folder, tmp_path):
    line, *_ = (image_folder / "metadata.jsonl").read_text().splitlines()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "metadata.jsonl").write_text(line)
    shutil.copy(image_folder / json.loads(line)["file_name"], tmp_path / "one")
    with pytest.raises(BadInput, match="crops need at least two"):
        build_task(small_recipe("style", tmp_path / "one", 1, STYLE, labels="crops"), tmp_path / "run")


def test_captions_of_one_content_are_positives():
    """Against cross-entropy with uniform targets over the rows with an equal caption or content."""
    images, texts = unit(5, 4), unit(5, 4, seed=1)
    ids, labels = torch.tensor([[1], [2], [3], [3], [4]]), torch.tensor([0, 0, 1, 2, 3])
    positives = [{0, 1}, {0, 1}, {2, 3}, {2, 3}, {4}]
    logits = 7 * (images @ texts.T)
    wanted = 0.0
    for each in (logits, logits.T):
        shares = each.exp() / each.exp().sum(1, keepdim=True)
        wanted -= np.mean([np.mean([np.log(shares[i, j]) for j in positives[i]]) for i in range(5)]) / 2
    loss, _ = contrastive_loss(images, texts, ids, torch.tensor(7.0, dtype=torch.double), labels)
    assert loss.item() == pytest.approx(wanted)


def test_training_with_crops_needs_no_labels(image_folder, tmp_path):
    recipe = small_recipe("style", image_folder, 2, STYLE, labels="crops")
    run = trained(recipe, tmp_path / "run")
    batch = run.task.batch(step_generator(0, 0, 0), 8)
    assert torch.equal(batch["labels"][:4], batch["labels"][4:])
    run.export(tmp_path / "export")
    assert (tmp_path / "export" / FILE).is_file()


@pytest.mark.parametrize(
    ("loss", "network", "batch", "sentence"),
    [
        ({}, {}, 8, "does not have two styles: set loss.labels to 'folders'"),
        ({"labels": "folders"}, {}, 8, "does not have two styles"),
        ({"labels": "names"}, {}, 8, "style, folders or crops"),
        ({"labels": "crops"}, {"channels": (12,)}, 8, "multiples of 8"),
        ({"labels": "crops"}, {}, 3, "at least 4"),
        ({"labels": "folders"}, {}, 7, "optim.batch must be at least 8 per process, not 7"),
        ({"labels": "style", "views": 3}, {}, 5, "at least 6"),
        ({"labels": "crops"}, {"start": "nowhere"}, 8, "no file nowhere"),
    ],
)
def test_invalid_settings_are_refused(image_folder, tmp_path, loss, network, batch, sentence):
    with pytest.raises(BadInput, match=sentence):
        build_task(small_recipe("style", image_folder, 1, STYLE | network, batch=batch, **loss), tmp_path / "run")


def test_batch_of_one_content_is_refused_for_a_content_encoder(image_folder, tmp_path):
    recipe = small_recipe("content", image_folder, 1, DUAL_ENCODER, batch=5, views=3)
    with pytest.raises(BadInput, match=r"optim\.batch must be at least 6 per process, not 5"):
        build_task(recipe, tmp_path / "run")


def test_content_encoder_training_and_export(image_folder, tmp_path):
    run = trained(small_recipe("content", image_folder, 2, DUAL_ENCODER), tmp_path / "run")
    batch = run.task.batch(step_generator(0, 0, 0), 8)
    assert torch.equal(batch["labels"][0::2], batch["labels"][1::2])
    loss, scalars = run.task.phases[0].module(batch)
    out = run.task.clip(input_ids=batch["ids"], attention_mask=batch["mask"], pixel_values=batch["pixels"])
    features, scale = (out.image_embeds.detach(), out.text_embeds.detach()), scalars["scale"]
    text, _ = contrastive_loss(*features, batch["ids"], scale, batch["labels"])
    torch.testing.assert_close(scalars["text"], text)
    torch.testing.assert_close(loss.detach(), scalars["text"] + scalars["images"])
    run.export(tmp_path / "export")
    clip = DualEncoder.load(tmp_path / "export")
    found = clip.image_features((batch["pixels"] + 1) / 2)
    with run.trained.ema_weights():
        wanted = run.task.clip.get_image_features(batch["pixels"]).pooler_output.detach()
    torch.testing.assert_close(found, F.normalize(wanted, dim=1), rtol=1e-3, atol=1e-4)


def test_resumed_style_run_is_bit_identical(styled, tmp_path):
    def recipe(steps):
        return small_recipe("style", styled, steps, STYLE, labels="folders")

    whole = trained(recipe(4), tmp_path / "whole")
    trained(recipe(2), tmp_path / "parts")
    parts = trained(recipe(4), tmp_path / "parts")
    own, other = (run.task.network.state_dict() for run in (whole, parts))
    assert all(torch.equal(own[name], other[name]) for name in own)
