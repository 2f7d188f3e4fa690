"""`sfumato sweep`, the Pareto front, and the choice of the least change, on a tiny model."""

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato as library
from sfumato.api.result import Result
from sfumato.api.sweep import sweep
from sfumato.api.trial import Trial, least_change, measured, pareto
from sfumato.errors import BadInput
from sfumato.images import read_image
from sfumato.metrics import METRICS, Evaluator
from sfumato.metrics.evaluator import SHIPPED
from sfumato.models.diffusion_model import DiffusionModel
from tests.tiny import tiny_image

GRID = ("--grid", "skip=1,3", "--grid", "guidance=2,5,8")
WORDS = ("photo.png", "--from", "red apple", "--to", "green apple", "-o", "out", "--steps", 5)
CLIP = ("--clip", SHIPPED)


@pytest.fixture
def run(sfumato, tiny_sd_folder):
    return lambda *words: sfumato("sweep", *WORDS, "--model", tiny_sd_folder, *CLIP, *words)


def test_sweep_writes_sheet_table_and_edits(run):
    outcome = run(*GRID)
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader(Path("out/table.csv").read_text().splitlines()))
    settings = [(int(row["skip"]), float(row["guidance_scale"])) for row in rows]
    assert settings == [(skip, guidance_scale) for skip in (1, 3) for guidance_scale in (2, 5, 8)]
    front = pareto([{name: float(row[name]) for name in ("lpips", "clip")} for row in rows], ["lpips", "clip"])
    assert [row["pareto"] == "True" for row in rows] == front
    assert any(front)
    for row in rows:
        assert Image.open(f"out/{row['file']}").size == (30, 22)
    assert Image.open("out/sheet.png").width > 3 * 128


def test_swept_edit_matches_a_single_edit(run, sfumato, tiny_sd_folder):
    """Sharing one inversion and batching the guidance scales changes only the rounding of the network."""
    assert run(*GRID).code == 0
    words = ("--from", "red apple", "--to", "green apple", "-o", "one.png", "--steps", 5, "--skip", 3, "--guidance", 8)
    assert sfumato("edit", "photo.png", *words, "--model", tiny_sd_folder).code == 0
    one, swept = (np.asarray(Image.open(name)).astype(int) for name in ("one.png", "out/edits/005.png"))
    assert abs(one - swept).max() <= 2


def test_settings_of_the_edit_share_one_inversion(tiny_sd_folder):
    model = library.load(str(tiny_sd_folder))
    grid = {"steps": [3, 4], "skip": [0, 1], "guidance_scale": [2.0, 4.0]}
    with model.network.counting() as count:
        trials = list(sweep(model, tiny_image(32, 32), "red cat", "green dog", grid=grid, evaluator=Evaluator.load()))
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
        (("--grid", "skip=1,x"), "integer"),
        (("--grid", "skip=1,7"), "between 0 and 4"),
        (("--grid", "exact=maybe"), "true or false"),
        (("--grid", "skip=1,2,1"), "skip = 1 more than once"),
        (("--grid", "blend=star", "--method", "prompt-to-prompt"), "neither prompt"),
        (
            ("--grid", "reweight=green=2,apple=1;star=3", "--method", "prompt-to-prompt"),
            '"star" of reweight is not in the target',
        ),
        (("--grid", "first=300,900", "--last", 950, "--method", "colour"), "lies between first = 900 and last = 950"),
        (("--grid", "target_word=dog,star", "--method", "pix2pix-zero"), "source_word and target_word together"),
        (("--grid", "skip=1", "--skip", 2), "skip is in the grid and fixed"),
        (("--grid", "skip=1", "--pareto", "beauty"), "no metric 'beauty'"),
        (("--grid", "skip=1", "--pareto", "outside_mse"), "no metric 'outside_mse'"),
        (("--grid", "skip=1", "--mask-words", "star"), '"star" of mask_words is in neither prompt'),
        (("--grid", "skip=1", "--mask-words", "red", "--mask-difference"), "not both"),
        (("--grid", "skip=1", "--max-pixels", 659), "limit of 659"),
        (
            (
                "--grid",
                "guidance_scale=" + ",".join(map(str, range(40))),
                "--grid",
                "eta=" + ",".join(f"0.{n}" for n in range(10, 50)),
            ),
            "1600 settings",
        ),
    ],
)
def test_invalid_grids_are_rejected(run, words, sentence):
    assert sentence in run(*words).refused()
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["sheet.png", "table.csv", "edits/001.png"])
@pytest.mark.parametrize("flag", ["image", "mask"])
def test_inputs_are_not_overwritten(sfumato, name, flag):
    Path("out/edits").mkdir(parents=True)
    Image.new("RGB", (30, 22), "white").save(f"out/{name}", "PNG")
    Image.new("L", (30, 22), "white").save("mask.png")
    image, mask = (f"out/{name}", "mask.png") if flag == "image" else ("photo.png", f"out/{name}")
    words = ("sweep", image, "--mask", mask, "--to", "x", "-o", "out", *GRID, "--model", "nosuch")
    assert f"out/{name} is an input of this command" in sfumato(*words).refused()


def test_unwritable_outputs_are_rejected_before_loading_the_model(sfumato):
    words = ("sweep", "photo.png", "--to", "x", "--grid", "skip=1,3", "--model", "nosuch", "-o")
    assert "photo.png is not a folder" in sfumato(*words, "photo.png").refused()
    Path("a/edits/001.png").mkdir(parents=True)
    assert "a/edits/001.png is not a regular file" in sfumato(*words, "a").refused()
    Path("b").mkdir()
    Path("b/edits").symlink_to("nowhere")
    assert "b/edits is not a folder" in sfumato(*words, "b").refused()


def test_leftover_edits_of_a_larger_sweep_are_rejected(run):
    assert run("--grid", "guidance_scale=2,5,8").code == 0
    Path("out/edits/notes.png").write_text("mine")
    assert "contains 002.png in addition to the 2 edits of this sweep" in run("--grid", "guidance_scale=2,5").refused()
    Path("out/edits/002.png").unlink()
    assert run("--grid", "guidance_scale=2,5").files == {"out/table.csv", "out/sheet.png"}


def test_saved_inversion_is_rejected(sfumato):
    words = ("sweep", "x.safetensors", "--to", "x", "-o", "out", *GRID, "--model", "nosuch")
    assert "give the image, not an inversion" in sfumato(*words).refused()


def test_interrupted_sweep_keeps_and_lists_finished_edits(run, monkeypatch):
    """The second of three inversions is interrupted; the files of an earlier sweep are deleted."""
    assert run("--grid", "eta=0.2,0.5,1", "--grid", "guidance_scale=2,5", "--seed", 1).code == 0
    invert, calls = library.api.plan.Plan.invert, []

    def interrupted(*given, **options):
        calls.append(1)
        if len(calls) == 2:
            assert sorted(os.listdir("out")) == ["edits"]
            assert sorted(os.listdir("out/edits")) == ["000.png", "001.png"]
            raise KeyboardInterrupt
        return invert(*given, **options)

    monkeypatch.setattr(library.api.plan.Plan, "invert", interrupted)
    outcome = run("--grid", "eta=0.2,0.5,1", "--grid", "guidance_scale=2,5")
    assert (outcome.code, outcome.out) == (130, "")
    assert "2 of 6 settings are in out/table.csv and out/sheet.png" in outcome.err
    rows = list(csv.DictReader(Path("out/table.csv").read_text().splitlines()))
    assert (
        [row["file"] for row in rows]
        == ["edits/000.png", "edits/001.png"]
        == [f"edits/{name}" for name in sorted(os.listdir("out/edits"))]
    )
    assert Image.open("out/sheet.png").width > 2 * 120


def test_prompts_too_long_for_the_evaluator_are_rejected(sfumato, tiny_sd_folder, monkeypatch):
    """Before the network is evaluated; the model accepts 77 tokens, the shipped evaluator 32."""
    monkeypatch.setattr(DiffusionModel, "_forward", lambda *_: pytest.fail("the network was evaluated"))
    words = ("sweep", "photo.png", "-o", "out", "--grid", "skip=1", "--steps", 3, "--model", tiny_sd_folder, *CLIP)
    for prompts in (("--from", "red", "--to", "red " * 40), ("--from", "red " * 40, "--to", "red")):
        assert "has 42 tokens and the dual encoder accepts at most" in sfumato(*words, *prompts).refused()
    assert not Path("out").exists()


def test_max_pixels_applies_to_all_readers(run, monkeypatch):
    """The default limits are patched below the image size, so a read without the option would fail."""
    monkeypatch.setattr(read_image, "__defaults__", (100,))
    for function in (library.api.Model.invert_steps, sweep):
        monkeypatch.setitem(function.__kwdefaults__, "max_pixels", 100)
    assert run("--grid", "skip=1", "--max-pixels", 660).code == 0


def test_undefined_metric_is_a_dash_outside_the_front(run):
    Image.new("L", (30, 22), 255).save("white.png")
    outcome = run("--grid", "guidance_scale=2,5", "--mask", "white.png", "--pareto", "clip", "outside_mse")
    assert outcome.code == 0, outcome.err
    assert [line.split()[2:] for line in outcome.out.splitlines()[1:3]] == [["-"], ["-"]]


def test_computed_masks_match_those_of_edit(run, sfumato, tiny_sd_folder):
    """The swept edit equals that of `sfumato edit` with the same mask options."""
    mask = ("--mask-words", "apple", "--mask-threshold", 0.5)
    assert run("--grid", "skip=1,3", "--guidance", 8, *mask).code == 0
    words = ("--from", "red apple", "--to", "green apple", "-o", "one.png", "--steps", 5, "--skip", 3, "--guidance", 8)
    assert sfumato("edit", "photo.png", *words, "--model", tiny_sd_folder, *mask).code == 0
    one, swept, photo = (np.asarray(Image.open(name)) for name in ("one.png", "out/edits/001.png", "photo.png"))
    assert (one == swept).all()
    assert 0 < (one == photo).all(axis=-1).mean() < 1


def test_large_edits_are_scored_in_small_batches():
    image = read_image(tiny_image(1024, 500))
    result = Result([image.rgb] * 5, [], [], {})
    sizes = []

    def evaluator(source, edit, **given):
        assert source.shape == edit.shape
        assert given["mask"].shape == (len(edit), 500, 1024)
        sizes.append(len(edit))
        return {"mse": (source - edit).square().mean(dim=(1, 2, 3)) + len(sizes)}

    scores = measured(evaluator, image, result, torch.ones(1, 500, 1024), ("a", "b"))
    assert sizes == [2, 2, 1]
    assert [each["mse"] for each in scores] == [1, 1, 2, 2, 3]


def test_sheet_is_reduced_and_edits_keep_their_size(sfumato, tiny_sd_folder, monkeypatch):
    monkeypatch.setattr("sfumato.cli.swept.LONGEST", 20)
    words = ("--from", "red", "--to", "green", "-o", "out", "--grid", "skip=1,2", "--steps", 3)
    assert sfumato("sweep", "photo.png", *words, "--model", tiny_sd_folder, *CLIP).code == 0
    assert Image.open("out/edits/001.png").size == (30, 22)
    scale = 128 // 20
    assert Image.open("out/sheet.png").width == 2 * 20 * scale + 3 * 12


def test_grid_accepts_texts_with_commas_and_paired_options(run):
    words = ("--method", "prompt-to-prompt", "--grid", "reweight=;green=2,apple=0.5", "--grid", "swap=yes,no")
    outcome = run(*words)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[3].split()[:2] == ["green=2,apple=0.5", "True"]
    words = ("--method", "pix2pix-zero", "--source-word", "red", "--grid", "target_word=green,blue", "--guidance", 0)
    Path("out").rename("first")
    assert run(*words).code == 0


def test_model_without_text_has_no_clip_metric(sfumato, tiny_ddpm_folder):
    words = ("sweep", "photo.png", "-o", "out", "--steps", 3, "--grid", "skip=1,2", "--model", tiny_ddpm_folder, *CLIP)
    assert "no metric 'clip' here; choose among mse, psnr" in sfumato(*words, "--pareto", "clip").refused()
    assert sfumato(*words, "--pareto", "lpips", "mse").code == 0
    assert sfumato(*words).code == 0


@pytest.mark.parametrize("source", ["", "red apple"])
def test_sweep_without_target_is_not_compared_with_a_text(sfumato, tiny_sd_folder, monkeypatch, source):
    """Neither with an empty text nor with the source prompt; remarks on the edits are printed and in the JSON."""
    monkeypatch.setattr("sfumato.metrics.DualEncoder.text_features", lambda *_: pytest.fail("a text was encoded"))
    words = ("sweep", "photo.png", "--from", source, "-o", "out", "--steps", 3, "--model", tiny_sd_folder, *CLIP)
    words = (*words, "--method", "pullback", "--rank", 5, "--grid", "gamma=1,2")
    run = sfumato(*words, "--json")
    assert run.code == 0, run.err
    first, second = run.json["notes"]
    assert first == "Without --to the Pareto front is that of lpips; --pareto names others."
    assert "rank" in second
    assert run.err.splitlines() == [f"sfumato: {first}", f"sfumato: {second}"]
    (header, *rows) = list(csv.reader(Path("out/table.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert "lpips" in header
    assert not {"clip", "directional"} & set(header)
    for metric in ("clip", "outside_mse"):
        assert f"no metric '{metric}' here" in sfumato(*words[:4], "-o", "other", *words[6:], "--pareto", metric).err
    assert not Path("other").exists()


def test_sweep_without_source_prompt_has_no_metric_of_it(sfumato, tiny_sd_folder):
    words = ("sweep", "photo.png", "--to", "red apple", "-o", "out", "--steps", 3, "--grid", "skip=1", *CLIP)
    run = sfumato(*words, "--model", tiny_sd_folder, "--json")
    assert run.code == 0, run.err
    assert run.json["notes"] == []
    assert "clip" in run.json["trials"][0]
    assert set(run.json["trials"][0]) & {name for name, each in METRICS.items() if "source text" in each.needs} == set()


def test_pareto_front_of_given_rows():
    """Higher clip and lower lpips are better; equal rows do not dominate each other; rows with NaN are excluded."""
    values = [(0.1, 0.2), (0.2, 0.5), (0.2, 0.4), (0.3, 0.5), (0.1, 0.2), (0.0, math.nan), (math.nan, 0.9)]
    rows = [{"lpips": lpips, "clip": clip} for lpips, clip in values]
    assert pareto(rows, ["lpips", "clip"]) == [True, True, False, False, True, False, False]
    assert pareto(rows[:-1], ["lpips"]) == [False, False, False, False, False, True]
    with pytest.raises(BadInput, match="no metric 'psnr'"):
        pareto(rows, ["psnr"])


def test_least_change_among_trials_that_reach_the_adherence():
    def trial(index, change, adherence):
        return Trial(index, {}, np.zeros((1, 1, 3), np.uint8), {"lpips": change, "clip": adherence}, None, 0)

    trials = [trial(0, 0.1, 0.2), trial(1, 0.5, 0.7), trial(2, 0.4, 0.6), trial(3, 0.9, 0.9)]
    assert least_change(trials, 0.6).index == 2
    assert least_change(trials, 0.95).index == 3


def test_model_without_evaluator_requires_clip_option(sfumato, tiny_sd_folder, monkeypatch):
    monkeypatch.setattr(DiffusionModel, "_forward", lambda *_: pytest.fail("the network was evaluated"))
    said = sfumato("sweep", *WORDS, "--model", tiny_sd_folder, "--grid", "skip=1,3").refused()
    assert "no dual encoder that scores edits" in said
    assert "--clip" in said


def test_large_image_is_scored_at_the_edited_size(tiny_sd_folder, monkeypatch):
    sizes = []
    model, evaluator = library.load(str(tiny_sd_folder)), Evaluator.load()
    monkeypatch.setattr(
        Evaluator,
        "__call__",
        lambda self, source, edit, **given: sizes.append((source.shape, edit.shape, given["mask"].shape)) or {},
    )
    mask = Image.new("L", (120, 90), 255)
    trials = sweep(
        model, tiny_image(120, 90), "red cat", "green dog", grid={"skip": [2]}, mask=mask, evaluator=evaluator
    )
    assert next(trials).pixels.shape == (90, 120, 3)
    assert sizes == [((1, 3, 30, 40), (1, 3, 30, 40), (1, 30, 40))]
