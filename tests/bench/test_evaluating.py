"""The fingerprint of an evaluator depends on its preprocessing, tokenizer, weights and image statistics."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from sfumato.bench.evaluating import evaluator_fingerprint
from sfumato.metrics import Evaluator
from sfumato.metrics.convnets import alexnet
from tests import tiny
from tests.metrics.test_text import save_clip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A dual encoder, and an AlexNet with learned weights; tests that change a file do so in a copy."""
    clip, alex = tmp_path_factory.mktemp("clip"), tmp_path_factory.mktemp("alex")
    save_clip(clip)
    with tiny.seeded(1):
        save_file(alexnet().state_dict(), alex / "model.safetensors")
    save_learned(alex, 0.5)
    return clip, alex


def save_learned(folder, value):
    channels = (64, 192, 384, 256, 256)
    weights = {f"lin{n}.model.1.weight": torch.full((1, c, 1, 1), value) for n, c in enumerate(channels)}
    save_file(weights, folder / "lpips.safetensors")


def of(folders):
    clip, alex = folders
    return evaluator_fingerprint(Evaluator.load(clip, perceptual=alex))


def test_fingerprint_is_unchanged_by_use(folders):
    evaluator = Evaluator.load(folders[0], perceptual=folders[1])
    first = evaluator_fingerprint(evaluator)
    evaluator.clip.text_features(["a cat", "a dog on a mat"])
    assert evaluator_fingerprint(evaluator) == first == of(folders)
    assert evaluator_fingerprint(Evaluator.load(folders[0])) != first


def exchanged(config):
    """The tokenizer config with two tokens of the vocabulary exchanged."""
    vocabulary = config["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    return config


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("preprocessor_config.json", lambda config: config | {"image_mean": [0.4, 0.5, 0.5]}),
        ("preprocessor_config.json", lambda config: config | {"size": {"shortest_edge": 20}}),
        ("tokenizer.json", exchanged),
    ],
)
def test_other_preprocessing_or_tokenizer_changes_the_fingerprint(folders, tmp_path, file, change):
    first, clip = of(folders), shutil.copytree(folders[0], tmp_path / "clip")
    assert of((clip, folders[1])) == first
    (clip / file).write_text(json.dumps(change(json.loads((clip / file).read_text()))))
    assert of((clip, folders[1])) != first


def test_other_lpips_weights_change_the_fingerprint(folders, tmp_path):
    first, alex = of(folders), shutil.copytree(folders[1], tmp_path / "alex")
    for value, same in ((0.6, False), (0.5, True)):
        save_learned(alex, value)
        assert (of((folders[0], alex)) == first) is same


@pytest.mark.parametrize("part", ["mean", "std"])
def test_other_image_statistics_change_the_fingerprint(folders, part):
    evaluator = Evaluator.load(*folders[:1])
    first = evaluator_fingerprint(evaluator)
    getattr(evaluator.structure, part).mul_(1.1)
    assert evaluator_fingerprint(evaluator) != first
