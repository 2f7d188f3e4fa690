"""A small PIE-Bench, a tiny model and evaluator, and a run of settings over it."""

import pytest

import sfumato
from sfumato.bench.journal import Journal
from sfumato.bench.piebench import PieBench
from sfumato.bench.runner import Runner
from tests.bench import small
from tests.bench.small import ABOUT, SIDE


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """The images of the small copies are smaller than those of PIE-Bench."""
    monkeypatch.setattr("sfumato.bench.piebench.SIDE", SIDE)


@pytest.fixture(scope="module")
def model(tiny_sd_folder):
    return sfumato.load(tiny_sd_folder)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    return small.evaluator(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def bench(tmp_path):
    return PieBench(small.layout(tmp_path / "pie"))


@pytest.fixture
def start(tmp_path, bench, model, evaluator):
    """Run settings over the benchmark's items, in the folder "out"; returns the records."""

    def run(*settings, items=None, **more):
        with Journal(tmp_path / "out", ABOUT) as journal:
            items = bench.items if items is None else items
            return Runner(bench, items, model, evaluator, journal, tmp_path / "out", **more).run(settings)

    return run
