"""The inversion benchmark: evaluation counts, errors and times. The values of the times are not checked."""

import json

import pytest
from diffusers import DPMSolverMultistepScheduler

from benchmarks import inversion
from benchmarks.contenders import LeditsPP, Task
from tests.tiny import tiny_image

STEPS, SKIP = 6, 2
KEPT = STEPS - SKIP


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "report.json"
    assert inversion.main(["--quick", "--steps", str(STEPS), "--skip", str(SKIP), "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_evaluation_counts(report):
    counted = {name: (outcome["calls"], outcome["samples"]) for name, outcome in report["outcomes"].items()}
    pairs = 2 * (STEPS + KEPT)
    assert counted == {
        "sfumato": (1 + KEPT, pairs),
        "sfumato, exact": (STEPS + KEPT, pairs),
        "plain sequential loop": (pairs, pairs),
        "diffusers LEDITS++": (2 * KEPT + KEPT, 4 * KEPT),
        "diffusers img2img": (KEPT, 2 * KEPT),
    }


def test_reconstruction_errors(report):
    errors = {name: outcome["error_max"] for name, outcome in report["outcomes"].items()}
    assert errors["sfumato, exact"] <= 1e-6
    assert errors["sfumato"] <= 1e-4
    assert errors["plain sequential loop"] > 1e-3
    assert errors["diffusers LEDITS++"] > 1e-3
    assert errors["diffusers img2img"] is None


def test_leditspp_reconstructs_with_noise_in_every_step(tiny_sd_folder):
    """With noise in each of 20 steps LEDITS++ reconstructs its input, so the reported error is its own."""
    task = Task(tiny_sd_folder, tiny_image(32, 32), "red apple", "green apple", 20, 2, 1.5, 2.0)
    contender = LeditsPP(task)
    config = contender.pipe.scheduler.config
    contender.pipe.scheduler = DPMSolverMultistepScheduler.from_config(config, final_sigmas_type="sigma_min")
    contender.invert()
    assert contender.reconstruction_error().abs().max() < 1e-4


def test_all_contenders_are_timed(report):
    for outcome in report["outcomes"].values():
        assert not outcome["problem"]
        assert len(outcome["invert_seconds"]) == len(outcome["edit_seconds"]) == len(outcome["cpu_seconds"]) == 1
        assert outcome["median_seconds"] > 0
    assert report["outcomes"]["sfumato"]["times_sfumato"] == 1
    assert {"cpu", "cores", "threads", "torch", "diffusers", "device"} <= set(report["environment"])
    assert (report["task"]["width"], report["task"]["height"]) == (32, 32)


def test_unsupported_size_of_a_contender_is_reported(capsys):
    only = ["--only", "sfumato", "diffusers LEDITS++"]
    assert inversion.main(["--quick", "--size", "40x24", "--steps", "3", "--skip", "1", *only]) == 0
    table = capsys.readouterr().out
    assert "40 x 24 pixels" in table
    assert "| diffusers LEDITS++ | Image height and width must be a factor of 32" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere"], "must be a Stable Diffusion pipeline folder"),
        (["--quick", "--steps", "5", "--skip", "5"], "--skip must be between 0 and 4"),
        (["--quick", "--image", "x.png"], "Give --from and --to"),
    ],
)
def test_invalid_arguments_are_refused(words, message, capsys):
    assert inversion.main(words) == 2
    assert message in capsys.readouterr().err
