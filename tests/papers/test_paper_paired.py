"""The comparison of paired edits: matching at equal adherence, standard errors, and failed edits."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from papers import paired_edits
from papers.paired import figures
from papers.paired.equal import matches, on_front
from papers.paired.results import ADHERENCE, ERROR, Results
from sfumato.bench.items import Item, ItemImages
from sfumato.bench.report import PARQUET
from sfumato.bench.summary import COSTS
from sfumato.errors import BadInput
from sfumato.metrics import METRICS

EDITS = 12
EMOJI = {f"edit {n}": f"emoji {n}" for n in range(EDITS)}
PAGE = "before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n"
# setting -> (method, direction, squared error)
SETTINGS = {
    "nothing": ("unchanged", 0.0, 0.01),
    "strong": ("edit-friendly", 0.5, 0.04),
    "weak": ("edit-friendly", 0.3, 0.02),
    "theirs": ("diffusers-img2img", 0.4, 0.06),
    "theirs, far": ("diffusers-ledits++", 0.6, 0.09),
}


@pytest.fixture
def folder(tmp_path):
    """Results whose errors vary from edit to edit in the same way for all settings."""
    return write(tmp_path / "results", SETTINGS)


def write(folder, settings, failed=()):
    rows = []
    for name, (method, direction, error) in settings.items():
        for n in range(EDITS):
            image = f"images/{method}/{n}.png"
            (folder / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (n, 0, 0)).save(folder / image)
            numbers = dict.fromkeys((*METRICS, *COSTS), 0.5) | {ADHERENCE: direction, ERROR: error * (1 + n)}
            numbers |= {"outside_psnr": math.inf if n else 40.0, "clip_region": None}
            bad = (name, n) in failed
            said = {"setting": name, "method": method, "item": f"edit {n}", "kind": "ab"[n % 2]}
            said |= {"error": "it broke" if bad else None, "image": None if bad else image}
            rows.append(said | (dict.fromkeys(numbers) if bad else numbers))
    pq.write_table(pa.Table.from_pylist(rows), folder / PARQUET)
    return folder


def test_nearest_setting_with_equal_adherence_is_matched(folder):
    first, by_clip, _, second, *_ = matches(Results.read(folder, EMOJI))
    assert (first.theirs, first.ours, first.beaten) == ("theirs", "strong", True)
    assert (by_clip.adherence, by_clip.ours) == ("clip", "weak"), "both follow as well by this measure"
    mean = np.mean(1 + np.arange(EDITS))
    assert first.difference.mean == pytest.approx((0.04 - 0.06) * mean)
    each = (0.04 - 0.06) * (1 + np.arange(EDITS))
    assert first.difference.error == pytest.approx(each.std(ddof=1) / math.sqrt(EDITS))
    assert (second.theirs, second.ours, second.beaten) == ("theirs, far", None, False)


def test_edits_of_one_emoji_are_clustered(folder):
    """The standard error treats the edits of one emoji as one cluster."""
    alone, *_ = matches(Results.read(folder, EMOJI))
    paired = {f"edit {n}": f"emoji {n // 2}" for n in range(EDITS)}
    results = Results.read(folder, paired)
    each = (0.04 - 0.06) * (1 + np.arange(EDITS))
    sums = (each - each.mean()).reshape(-1, 2).sum(axis=1)
    deviation = results.difference("strong", "theirs", ERROR).error
    assert deviation == pytest.approx(math.sqrt(6 / 5 * (sums**2).sum()) / EDITS)
    assert deviation > alone.difference.error
    assert math.isnan(Results.read(folder, dict.fromkeys(EMOJI, "one")).difference("strong", "theirs", ERROR).error)


def test_insignificant_difference_is_not_a_win(tmp_path):
    near = dict(SETTINGS) | {"strong": ("edit-friendly", 0.5, 0.06)}
    first, *_ = matches(Results.read(write(tmp_path, near), EMOJI))
    assert (first.ours, first.difference.mean, first.beaten) == ("strong", 0, False)


def test_pareto_front_of_adherence_and_error(folder):
    assert on_front(Results.read(folder, EMOJI)) == ["nothing", "strong", "weak", "theirs, far"]


def test_a_method_that_optimises_the_evaluator_is_not_compared(tmp_path):
    guided = {"guided": ("diffuseit", 0.7, 0.001)}
    results = Results.read(write(tmp_path, dict(SETTINGS) | guided), EMOJI)
    assert "guided" not in on_front(results)
    assert [match.ours for match in matches(results)] == [match.ours for match in matches_without(results, "guided")]


def matches_without(results, name):
    """The matches if a setting had not been measured."""
    return matches(replace(results, methods={other: of for other, of in results.methods.items() if other != name}))


def test_edit_failed_by_one_setting_is_excluded_for_all(tmp_path):
    results = Results.read(write(tmp_path, SETTINGS, failed={("weak", 3)}), EMOJI)
    assert (len(results.items), results.lost) == (EDITS - 1, 1)
    assert "edit 3" not in results.items
    assert "(1 more were not finished" in paired_edits.as_markdown(results)
    assert results.mean("weak", "outside_psnr") == pytest.approx((40 + 100 * (EDITS - 2)) / (EDITS - 1))
    assert math.isnan(results.mean("weak", "clip_region"))


def test_infinite_psnr_counts_as_100_db(tmp_path):
    results = Results.read(write(tmp_path, SETTINGS), EMOJI)
    assert results.difference("weak", "theirs", "outside_psnr").mean == 0
    assert results.values["weak"]["outside_psnr"].max() == 100


def test_script_writes_tables_and_figures_to_the_page(folder, tmp_path, monkeypatch):
    def load():
        return ItemImages(np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8))

    class Corpus:
        def __init__(self, place, size):
            assert (place, size) == (Path("data/emoji"), 16)
            self.items = [Item(f"edit {n}", "a", "test", f"source {n}", f"target {n}", load) for n in range(EDITS)]

    monkeypatch.setattr(figures, "PairBenchmark", Corpus)
    monkeypatch.setattr(paired_edits, "emoji_of", lambda place: EMOJI)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    words = ["--results", folder, "--out", tmp_path / "out", "--page", page, "--shown", "3"]
    assert paired_edits.main(list(map(str, words))) == 0
    written = page.read_text()
    assert "| theirs | direction | strong | +0.100 ± 0.000 | -0.1300 ± " in written
    assert "| theirs, far | direction | none | | | **no** |" in written
    assert written.startswith("before")
    assert written.endswith("after\n")
    for figure in paired_edits.FIGURES:
        with Image.open(page.with_name(f"page-{figure}")) as image:
            assert min(image.size) > 100


def test_missing_or_empty_results_are_refused(tmp_path):
    with pytest.raises(BadInput, match="sfumato bench pairs"):
        Results.read(tmp_path, EMOJI)
    with pytest.raises(BadInput, match="finished by every setting"):
        Results.read(write(tmp_path, SETTINGS, failed={("weak", n) for n in range(EDITS)}), EMOJI)
