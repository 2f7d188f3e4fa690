"""Images of a folder that cannot be read are named and left out of the training."""

import json
import logging
from pathlib import Path

import pytest
import torch

from sfumato.errors import BadInput
from sfumato.train.dataset import open_images
from sfumato.train.start import build_task
from tests.train.conftest import write_image_folder
from tests.train.small import AUTOENCODER, DUAL_ENCODER, small_recipe, trained

STYLE = {"channels": (8, 16, 16), "dimension": 8, "least": 2}


@pytest.fixture
def damaged(tmp_path) -> Path:
    """A folder of eight images, the first of which cannot be read."""
    folder = write_image_folder(tmp_path / "images")
    damage(folder, 1)
    return folder


def damage(folder: Path, count: int) -> list[str]:
    """Overwrite the first images of the metadata with text; return their names."""
    names = [json.loads(line)["file_name"] for line in (folder / "metadata.jsonl").read_text().splitlines()[:count]]
    for name in names:
        (folder / name).write_bytes(b"no image")
    return names


def weights(run) -> dict[str, torch.Tensor]:
    return dict(run.task.phases[0].module.state_dict())


@pytest.mark.parametrize(
    ("kind", "network", "loss"),
    [
        ("style", STYLE, {"labels": "crops"}),
        ("content", DUAL_ENCODER, {}),
        ("dual-encoder", DUAL_ENCODER, {}),
        ("autoencoder", AUTOENCODER, {}),
    ],
)
def test_tasks_leave_unreadable_images_out(damaged, tmp_path, kind, network, loss):
    task = build_task(small_recipe(kind, damaged, 1, network, **loss), tmp_path / "run")
    assert task.image_count == len(task.data.captions) == 7


def test_log_names_the_first_five_and_counts_all(tmp_path, caplog):
    folder = write_image_folder(tmp_path / "images")
    recipe = small_recipe("autoencoder", folder, 1, AUTOENCODER)
    assert len(open_images(recipe)) == 8
    assert not caplog.messages
    names = damage(folder, 6)
    assert len(open_images(recipe)) == 2
    *named, count = caplog.messages
    assert [sentence.split(" is text")[0] for sentence in named] == [f"left out: {folder / name}" for name in names[:5]]
    assert count == f"left out because they cannot be read: 6 of the 8 images of {folder}"
    damage(folder, 8)
    with pytest.raises(BadInput, match="none of the 8 images"):
        open_images(recipe)


def test_resumed_run_with_the_same_unreadable_images_is_bit_identical(damaged, tmp_path, caplog):
    recipes = [small_recipe("style", damaged, steps, STYLE, labels="crops") for steps in (2, 4)]
    whole = trained(recipes[1], tmp_path / "whole")
    trained(recipes[0], tmp_path / "parts")
    parts = trained(recipes[1], tmp_path / "parts")
    assert parts.step == 4
    own, other = weights(whole), weights(parts)
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert not [each for each in caplog.messages if "training images" in each]


def test_resumed_run_with_other_images_continues_with_a_warning(damaged, tmp_path, caplog):
    recipes = [small_recipe("style", damaged, steps, STYLE, labels="crops") for steps in (2, 4)]
    trained(recipes[0], tmp_path / "run")
    damage(damaged, 2)
    with caplog.at_level(logging.WARNING):
        run = trained(recipes[1], tmp_path / "run")
    assert run.step == 4
    (warning,) = [each for each in caplog.messages if "training images" in each]
    assert warning.startswith("The run continues with 6 training images; when it was last started it had 7.")
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").open()]
    assert [entry["images"] for entry in history] == [7, 6]
