"""No training task uses the `test` and `cells` splits of the corpus."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sfumato.data.dataset import NothingLeft
from sfumato.data.emoji import build
from sfumato.data.splits import split_of, split_of_file
from sfumato.train.autoencoder import AutoencoderTask
from sfumato.train.dataset import open_images
from sfumato.train.diffusion import DiffusionTask
from sfumato.train.dual_encoder import DualEncoderTask
from sfumato.train.loop import Run
from sfumato.train.recipe import DataRecipe, Recipe, RunRecipe
from tests.data import fake
from tests.train.conftest import write_image_folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 76 faces in one style; its splits are derived from the code points, as in the real corpus."""
    root = tmp_path_factory.mktemp("held_out")
    fake.iconify(root / "cache", "noto", fake.many(76))
    settings = {"sharealike": False, "flags": False, "pypi": False, "size": 32, "limit": None, "workers": 1}
    build(root / "corpus", cache=root / "cache", styles=["noto"], **settings)
    return root / "corpus"


def tasks(corpus: Path, folder: Path):
    data = DataRecipe(folder=str(corpus), size=32)
    autoencoder = AutoencoderTask(
        Recipe(kind="autoencoder", data=data, network={"channels": (8, 8, 8), "groups": 4, "f": 4})
    )
    shape = {"width": 64, "image_layers": 1, "text_layers": 1, "patch": 8, "vocabulary": 700}
    dual_encoder = DualEncoderTask(Recipe(kind="dual-encoder", data=data, network=shape), folder)
    autoencoder.export(folder / "autoencoder")
    dual_encoder.export(folder / "dual")
    evaluator = Recipe(kind="dual-encoder", seed=1, data=data, network=shape, run=RunRecipe(precision="fp32"))
    Run(DualEncoderTask(evaluator, folder), evaluator, folder / "runs" / "evaluator", "cpu").export(
        folder / "evaluator"
    )
    network = {"channels": (8, 8), "heads": (1, 1), "groups": 4}
    network |= {
        "autoencoder": str(folder / "autoencoder"),
        "text": {"start": str(folder / "dual")},
        "evaluator": str(folder / "evaluator"),
    }
    return autoencoder, dual_encoder, DiffusionTask(Recipe("diffusion", data=data, network=network), folder)


def test_tasks_use_only_the_train_split(corpus, tmp_path):
    recipe = Recipe("autoencoder", data=DataRecipe(folder=str(corpus), size=32))
    everything = open_images(recipe, split=None)
    kinds = Counter(map(split_of, everything.table["base"].to_pylist(), everything.table["style"].to_pylist()))
    assert set(kinds) == {"train", "test", "cells"}, "the test needs all three"
    for task in tasks(corpus, tmp_path):
        rows = list(zip(task.data.table["base"].to_pylist(), task.data.table["style"].to_pylist(), strict=True))
        assert len(rows) == kinds["train"]
        assert {split_of(*row) for row in rows} == {"train"}


def test_folder_without_train_images_is_refused(tmp_path):
    own = write_image_folder(tmp_path / "own")
    names = [f"{n}.png" for n in range(200)]
    held_out = next(name for name in names if split_of_file(name) == "test")
    for path in own.glob("*.png"):
        path.rename(own / held_out)
    (own / "metadata.jsonl").write_text(json.dumps({"file_name": held_out, "text": "a red disc"}))
    recipe = Recipe("autoencoder", data=DataRecipe(folder=str(own), size=32))
    with pytest.raises(NothingLeft, match=r"split 'train': one file in 20, chosen by a hash of its name") as caught:
        open_images(recipe)
    assert "\n" not in str(caught.value)
    assert len(open_images(recipe, split="test")) == 1
