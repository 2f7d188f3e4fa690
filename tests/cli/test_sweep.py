"""`sfumato sweep`, and the choice among many settings, on a tiny model."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato as library
from sfumato.api.sweep import Trial, least_change, pareto, sweep
from sfumato.errors import BadInput
from tests.tiny import tiny_picture

GRID = ("--grid", "skip=1,3", "--grid", "strength=2,5,8")
WORDS = ("photo.png", "--from", "red apple", "--to", "green apple", "-o", "out", "--steps", 5)


@pytest.fixture
def run(sfumato, tiny_sd_folder):
    return lambda *words: sfumato("sweep", *WORDS, "--model", tiny_sd_folder, *words)


def test_a_sheet_a_table_and_the_edits(run):
    outcome = run(*GRID)
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader(Path("out/table.csv").read_text().splitlines()))
    settings = [(int(row["skip"]), float(row["strength"])) for row in rows]
    assert settings == [(skip, strength) for skip in (1, 3) for strength in (2, 5, 8)]
    front = pareto([{name: float(row[name]) for name in ("lpips", "clip")} for row in rows], ["lpips", "clip"])
    assert [row["pareto"] == "True" for row in rows] == front
    assert any(front)
    for row in rows:
        assert Image.open(f"out/{row['file']}").size == (30, 22)
    assert Image.open("out/sheet.png").width > 3 * 128


def test_the_same_as_one_edit_after_the_other(run, sfumato, tiny_sd_folder):
    """One inversion and batches of strengths change the rounding of the network, nothing else."""
    assert run(*GRID).code == 0
    words = ("--from", "red apple", "--to", "green apple", "-o", "one.png", "--steps", 5, "--skip", 3, "--strength", 8)
    assert sfumato("edit", "photo.png", *words, "--model", tiny_sd_folder).code == 0
    one, swept = (np.asarray(Image.open(name)).astype(int) for name in ("one.png", "out/edits/005.png"))
    assert abs(one - swept).max() <= 2


def test_one_inversion_for_settings_of_the_edit(tiny_sd_folder):
    model = library.load(str(tiny_sd_folder))
    grid = {"steps": [3, 4], "skip": [0, 1], "strength": [2.0, 4.0]}
    with model.network.counting() as count:
        trials = list(sweep(model, tiny_picture(32, 32), "red cat", "green dog", grid=grid))
    assert sorted(trial.index for trial in trials) == list(range(8))
    inversions = 2 * (3 + 4)
    edits = 2 * 2 * (3 + 2 + 4 + 3)
    assert count.samples == inversions + edits


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "at least one --grid"),
        (("--grid", "skip"), "NAME=A,B"),
        (("--grid", "skop=1"), "skop is no parameter of edit-friendly"),
        (("--grid", "skip=1", "--grid", "skip=2"), "given twice"),
        (("--grid", "skip=1,x"), "whole number"),
        (("--grid", "skip=1,7"), "between 0 and 4"),
        (("--grid", "exact=maybe"), "true or false"),
        (("--grid", "skip=1,2,1"), "skip = 1 more than once"),
        (("--grid", "blend=star", "--method", "prompt-to-prompt"), "neither prompt"),
        (("--grid", "reweight=green=2,apple=1;star=3", "--method", "prompt-to-prompt"), '"star" is not in the prompt'),
        (("--grid", "first=300,900", "--last", 950, "--method", "colour"), "lies between first = 900 and last = 950"),
        (("--grid", "target_word=dog,star", "--method", "pix2pix-zero"), "source_word and target_word together"),
        (("--grid", "skip=1", "--skip", 2), "skip is in the grid already"),
        (("--grid", "skip=1", "--pareto", "beauty"), "no metric 'beauty'"),
        (("--grid", "skip=1", "--pareto", "outside_mse"), "no metric 'outside_mse'"),
        (
            (
                "--grid",
                "strength=" + ",".join(map(str, range(40))),
                "--grid",
                "eta=" + ",".join(f"0.{n}" for n in range(10, 50)),
            ),
            "1600 settings",
        ),
    ],
)
def test_bad_grids_are_refused_before_any_work(run, words, sentence):
    assert sentence in run(*words).refused()
    assert not Path("out").exists()


def test_texts_with_commas_and_halves_of_a_pair(run):
    words = ("--method", "prompt-to-prompt", "--grid", "reweight=;green=2,apple=0.5", "--grid", "swap=yes,no")
    outcome = run(*words)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[3].split()[:2] == ["green=2,apple=0.5", "True"]
    words = ("--method", "pix2pix-zero", "--source-word", "red", "--grid", "target_word=green,blue", "--guidance", 0)
    assert run(*words).code == 0


def test_without_text_there_is_no_adherence(sfumato, tiny_ddpm_folder):
    words = ("sweep", "photo.png", "-o", "out", "--steps", 3, "--grid", "skip=1,2", "--model", tiny_ddpm_folder)
    assert "no metric 'clip' here; choose among mse, psnr" in sfumato(*words).refused()
    assert sfumato(*words, "--pareto", "lpips", "mse").code == 0


def test_pareto_against_its_definition():
    """More clip is better, more lpips is worse; equal rows do not beat each other, a NaN is never good."""
    values = [(0.1, 0.2), (0.2, 0.5), (0.2, 0.4), (0.3, 0.5), (0.1, 0.2), (0.0, math.nan), (math.nan, 0.9)]
    rows = [{"lpips": lpips, "clip": clip} for lpips, clip in values]
    assert pareto(rows, ["lpips", "clip"]) == [True, True, False, False, True, True, True]
    with pytest.raises(BadInput, match="no metric 'psnr'"):
        pareto(rows, ["psnr"])


def test_least_change_among_those_that_reach_what_is_wanted():
    def trial(index, change, adherence):
        return Trial(index, {}, np.zeros((1, 1, 3), np.uint8), {"lpips": change, "clip": adherence}, None, 0)

    trials = [trial(0, 0.1, 0.2), trial(1, 0.5, 0.7), trial(2, 0.4, 0.6), trial(3, 0.9, 0.9)]
    assert least_change(trials, 0.6).index == 2
    assert least_change(trials, 0.95).index == 3
