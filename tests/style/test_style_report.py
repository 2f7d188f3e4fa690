"""The metrics of the encoders on descriptors with known results."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from sfumato.train import style_report as module
from sfumato.train.style_report import Described, described, found_first, probe, retrieval
from tests.data.test_dataset import corpus  # noqa: F401


def test_only_allowed_images_are_found():
    queries = torch.eye(3)
    database = torch.eye(3)
    right = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 1, 1]]).bool()
    allowed = ~torch.eye(3).bool()
    database[1, 0] = 0.5  # the second is the nearest other image of the first
    assert found_first(queries, database, right, allowed) == pytest.approx(1 / 2)  # the second has no right one
    assert found_first(queries, database, right, torch.ones(3, 3).bool()) == 1


@pytest.fixture
def disentangled():
    """60 images: six contents times ten styles; each descriptor contains its own label only."""
    content, style = torch.arange(6).repeat_interleave(10), torch.arange(10).repeat(6)
    labels = {"content": content, "style": style, "group": content // 2}
    return Described({"content": torch.eye(6)[content], "style": torch.eye(10)[style]}, labels)


def test_metrics_of_disentangled_descriptors(disentangled):
    rows = torch.arange(30, 60)
    assert retrieval(disentangled, rows, "content") == 1
    assert retrieval(disentangled, rows, "style") == 1
    train, test = torch.arange(0, 60, 2), torch.arange(1, 60, 2)
    for name, label, wanted in (("style", "style", 0), ("content", "content", 1), ("content", "group", 1)):
        known, vectors = disentangled.labels[label], disentangled.vectors[name]
        accuracy = probe(vectors[train], known[train], vectors[test], known[test])
        assert accuracy == wanted  # the test styles do not occur among the training styles
    known, vectors = disentangled.labels["content"], disentangled.vectors["style"]
    shuffled = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    train, test = shuffled[:30], shuffled[30:]
    assert probe(vectors[train], known[train], vectors[test], known[test]) < 0.4


def test_swapped_descriptors_have_low_retrieval(disentangled):
    swapped = Described(
        {"content": disentangled.vectors["style"], "style": disentangled.vectors["content"]}, disentangled.labels
    )
    rows = torch.arange(60)
    assert retrieval(swapped, rows, "content") < 0.5
    assert retrieval(swapped, rows, "style") < 0.5


def test_probe_equals_ridge_regression():
    draw = torch.Generator().manual_seed(0)
    x, labels = torch.randn(50, 4, generator=draw), torch.randint(3, (50,), generator=draw)
    test = torch.randn(20, 4, generator=draw)
    ones = torch.ones(50, 1)
    stacked = torch.cat([torch.cat([x, ones], 1), (1e-3 * 50) ** 0.5 * torch.eye(5)]).double()
    target = torch.cat([torch.nn.functional.one_hot(labels), torch.zeros(5, 3)]).double()
    weights = torch.linalg.lstsq(stacked, target).solution
    wanted = (torch.cat([test, torch.ones(20, 1)], 1).double() @ weights).argmax(1)
    assert probe(x, labels, test, wanted) == 1


def test_descriptors_and_labels_of_several_parts():
    """Labels are numbered over all parts; descriptors are those of the encoders."""
    encoders = SimpleNamespace(of=lambda name: SimpleNamespace(image_features=lambda x: x.mean((2, 3))))

    def part(styles):
        table = pa.table({"untoned": styles, "style": styles, "group": ["g"] * len(styles)})
        images = np.random.default_rng(len(styles)).integers(0, 256, (len(styles), 3, 4, 4), np.uint8)
        return SimpleNamespace(images=images, table=table)

    one, other = part(["a", "b"]), part(["b", "c", "a"])
    found = described([one, other], encoders)
    assert found.labels["style"].tolist() == [0, 1, 1, 2, 0]
    assert found.labels["group"].tolist() == [0] * 5
    both = np.concatenate([one.images, other.images])
    np.testing.assert_allclose(found.vectors["style"], both.mean((2, 3)) / 255, rtol=1e-5)


def test_the_command_writes_and_prints_the_figures(corpus, tmp_path, capsys):  # noqa: F811
    assert module.main([str(corpus), "--count", "20", "--out", str(tmp_path / "out.json")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads((tmp_path / "out.json").read_text())
    assert figures["training images"] == 20
    assert figures["test"]["images"] > 0


def test_invalid_input_is_refused(corpus, image_folder, encoders, tmp_path, capsys):  # noqa: F811
    given = ["--content", str(encoders[0]), "--style", str(encoders[1]), "--out", str(tmp_path / "out.json")]
    for words, sentence in (
        ([tmp_path / "nowhere", *given], "nowhere is not the emoji corpus: build it with"),
        ([image_folder, *given], "is not the emoji corpus"),
        ([corpus, *given, "--count", "0"], "count must be 1 or more, not 0"),
        (["nowhere", *given, "--out", tmp_path / "missing" / "x.json"], "missing does not exist: create it first"),
        ([corpus, "--style", tmp_path], "contains no style"),
        ([corpus, "--content", tmp_path], str(tmp_path)),
    ):
        with pytest.raises(SystemExit) as caught:
            module.main(list(map(str, words)))
        assert caught.value.code == 2
        printed = capsys.readouterr()
        assert sentence in printed.err
        assert printed.out == ""
    assert not (tmp_path / "out.json").exists()
