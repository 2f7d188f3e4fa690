"""A metric of another package is listed, computed and used for comparisons like the built-in ones."""

import csv
import json
from pathlib import Path

import pytest

from sfumato.metrics import METRICS
from tests import third_party
from tests.bench import small
from tests.bench.conftest import small_images  # noqa: F401
from tests.metrics.test_text import save_clip
from tests.tiny import tiny_image


@pytest.fixture
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture
def brightness(monkeypatch, tmp_path_factory):
    """The metric of another package, installed."""
    third_party.install(monkeypatch, tmp_path_factory.mktemp("thirdparty"), METRICS, "brightness", third_party.METRIC)


@pytest.mark.usefixtures("brightness")
def test_metrics_lists_and_computes_third_party_metric(sfumato, folder, clip):
    tiny_image(30, 22, seed=1).save(folder / "edit.png")
    assert "change of the mean pixel value" in sfumato("metrics").out
    found = sfumato("metrics", "photo.png", "edit.png", "--clip", clip, "--json").json
    assert found["metrics"]["brightness"] > 0
    assert found["better"]["brightness"] == "lower"


@pytest.mark.usefixtures("brightness")
def test_sweep_uses_third_party_metric(sfumato, tiny_sd_folder, clip):
    words = ("--from", "red", "--to", "green", "-o", "out", "--grid", "skip=1,2", "--steps", 3, "--clip", clip)
    run = sfumato("sweep", "photo.png", *words, "--model", tiny_sd_folder, "--pareto", "brightness")
    assert run.code == 0, run.err
    rows = list(csv.DictReader(Path("out/table.csv").read_text().splitlines()))
    best = min(float(row["brightness"]) for row in rows)
    assert [row["pareto"] == "True" for row in rows] == [float(row["brightness"]) == best for row in rows]


@pytest.mark.usefixtures("brightness")
def test_benchmark_reports_third_party_metric(sfumato, folder, tiny_sd_folder, clip):
    small.layout(folder / "pie")
    (folder / "rows.toml").write_text('[[row]]\nname = "unchanged"\nmethod = "unchanged"\n')
    words = ("--data", "pie", "--rows", "rows.toml", "--model", tiny_sd_folder, "--clip", clip, "--out", "out")
    assert sfumato("bench", "piebench", *words, "--json").json["lines"][0]["means"]["brightness"] == 0
    assert 'title="change of the mean pixel value"' in Path("out/report.html").read_text()


def test_listing_contains_the_inputs_of_each_metric(sfumato):
    found = {each["name"]: each for each in sfumato("metrics", "--json").json["metrics"]}
    assert list(found) == list(METRICS)
    assert found["clip_region"]["needs"] == ["dual encoder", "target text", "mask"]
    assert (found["psnr"]["unit"], found["psnr"]["better"]) == ("dB", "higher")
    lines = sfumato("metrics").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(METRICS)


def test_listing_reports_a_package_that_fails(sfumato, monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("failing")
    third_party.install(monkeypatch, folder, METRICS, "brightness", "import nosuch", package="failing")
    run = sfumato("metrics", "--json")
    assert json.loads(run.out)["unloaded"][0]["package"] == "failing"
    assert "the metric 'brightness' of the package failing cannot be loaded" in run.err


@pytest.mark.parametrize("words", [("photo.png",), ("--mask", "photo.png"), ("--to", "red"), ("photo.png", "--json")])
def test_metrics_requires_two_images(sfumato, words):
    assert "give SOURCE and EDIT" in sfumato("metrics", *words).refused()
