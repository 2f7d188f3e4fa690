"""The editing benchmark: the official loops give the same edits, and all evaluation counts are as expected."""

import json
from dataclasses import replace
from itertools import pairwise
from math import ceil

import pytest
import torch

from benchmarks import editing, loops
from benchmarks.contenders import Official, Ours
from benchmarks.editing import EDITS
from benchmarks.rounds import carried_back
from sfumato.bench.contenders import Task
from sfumato.core.guidance import classifier_free
from sfumato.inversion import Inversion, invert_ddim, replay, with_source
from sfumato.inversion.regularised import OFFICIAL, invert_regularised
from sfumato.models.load import load_model
from sfumato.shifts.attention_guidance import CrossAttentionGuidance
from tests.exact.toy import finished
from tests.tiny import tiny_image

pytestmark = pytest.mark.slow

STEPS, SKIP = 6, 2
KEPT = STEPS - SKIP
TOGETHER = 16
"""Rows of the source evaluated in one call, for latents of this size."""
ROUND = ["--quick", "--steps", str(STEPS), "--skip", str(SKIP)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "report.json"
    assert editing.main([*ROUND, "--out", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.fixture
def network(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


@pytest.fixture
def scene(network):
    source, target, empty = (network.condition(prompt) for prompt in ("red cat", "blue dog", ""))
    return loops.Scene(network, source, target, empty, STEPS, SKIP, source_guidance_scale=1.5, guidance_scale=3.0)


@pytest.fixture
def x0():
    # float64 avoids the rounding errors of float32 from x_0 to x_T
    return torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def test_evaluations_of_the_official_loops(report):
    counted = {name: costs(pair["official"]) for name, pair in report["edits"].items()}
    assert counted == {
        "edit-friendly": (2 * STEPS + 2 * KEPT, 2 * STEPS + 2 * KEPT, 0),
        "prompt-to-prompt, edit-friendly": (2 * STEPS + 2 * KEPT, 2 * STEPS + 4 * KEPT, 0),
        "prompt-to-prompt, ddim": (STEPS + STEPS, STEPS + 4 * STEPS, 0),
        "plug-and-play, ddim": (STEPS + STEPS, STEPS + 3 * STEPS, 0),
        "plug-and-play, edit-friendly": (2 * STEPS + KEPT, 2 * STEPS + 3 * KEPT, 0),
        "pix2pix-zero": (STEPS + 3 * STEPS, STEPS + 6 * STEPS, 2 * STEPS),
    }


def test_evaluations_of_ours(report):
    """In the steps that reuse data of the source, it adds one row per step; several steps share one call."""
    counted = {name: costs(pair["ours"]) for name, pair in report["edits"].items()}
    batches, words, features = ceil(2 * STEPS / 64), (0.2, 0.6), (0.5, 0.8)
    assert counted == {
        "edit-friendly": (batches + KEPT, 2 * STEPS + 2 * KEPT, 0),
        "prompt-to-prompt, edit-friendly": carried(batches, 2 * STEPS, KEPT, words),
        "prompt-to-prompt, ddim": carried(STEPS, STEPS, STEPS, words),
        "plug-and-play, ddim": carried(STEPS, STEPS, STEPS, features),
        "plug-and-play, edit-friendly": carried(batches, 2 * STEPS, KEPT, features),
        "pix2pix-zero": (STEPS + ceil(STEPS / TOGETHER) + 2 * STEPS, STEPS + 4 * STEPS, STEPS),
    }


def costs(outcome):
    return outcome["calls"], outcome["samples"], outcome["backward"]


def carried(calls, rows, steps, shares):
    """Costs of an edit; the steps of one interval between `shares` evaluate the source together."""
    ends = [0, *(round(share * steps) for share in shares)]
    beside = sum(ceil((end - start) / TOGETHER) for start, end in pairwise(ends))
    return calls + steps + beside, rows + 2 * steps + ends[-1], 0


def test_report_contains_times_of_both_sides(report):
    for pair in report["edits"].values():
        for side in (pair["ours"], pair["official"]):
            assert not side["problem"]
            assert len(side["invert_seconds"]) == len(side["edit_seconds"]) == len(side["cpu_seconds"]) == 1
        assert pair["times"]["rows"] == pair["official"]["samples"] / pair["ours"]["samples"]
        assert pair["times"]["seconds"] > 0
    assert (report["task"]["steps"], report["task"]["skip"]) == (STEPS, SKIP)


@pytest.mark.parametrize("name", list(EDITS))
def test_both_sides_visit_the_same_timesteps(network, name, tmp_path):
    task = Task(None, tiny_image(32, 32), "red cat", "blue dog", STEPS, SKIP, 1.5, 3.0)
    editing._save_direction(network, task, tmp_path)
    edit = EDITS[name]
    ours = Ours(task, network, edit.method, **edit.options(task, tmp_path))
    official = Official(task, network, edit.loop)
    run = network.schedule.timesteps(STEPS)
    start = SKIP if edit.inversion == "edit-friendly" else 0
    for side in (ours, official):
        assert visited(network, side.invert) == set(run)
        assert visited(network, side.edit) == set(run[start:])


def visited(network, work):
    seen = set()
    hook = network.unet.register_forward_pre_hook(
        lambda module, inputs: seen.update(torch.as_tensor(inputs[1]).reshape(-1).tolist())
    )
    work()
    hook.remove()
    return seen


@pytest.mark.parametrize("name", list(EDITS))
def test_same_edit_as_ours_without_control(scene, x0, name, monkeypatch):
    """From one recorded run both loops end at the same x_0."""
    monkeypatch.setattr(loops, "FOLLOW", 0.0)
    loop = EDITS[name].loop
    recorded = loop.invert(scene, x0)
    theirs = loop.edit(scene, recorded)
    assert (theirs - replayed(scene, recorded, scene.target, scene.guidance_scale, x0)).abs().max() < 3e-5
    assert (theirs - x0).abs().max() > 0.1


@pytest.mark.parametrize("name", list(EDITS))
def test_edit_with_the_source_prompt_is_the_reconstruction(scene, x0, name):
    loop = EDITS[name].loop
    scene = replace(scene, target=scene.source, source_guidance_scale=1.0, guidance_scale=1.0)
    recorded = loop.invert(scene, x0)
    theirs = loop.edit(scene, recorded)
    assert (theirs - replayed(scene, recorded, scene.source, 1.0, x0)).abs().max() < 1e-5


def replayed(scene, recorded, condition, guidance_scale, x0):
    x = torch.cat([recorded.x, x0[None]])
    maps = recorded.z if recorded.eta else None
    inversion = Inversion("any", x, maps, tuple(recorded.timesteps), recorded.eta, (guidance_scale,))
    guided = classifier_free(scene.network, scene.empty, (guidance_scale,))
    *_, last = replay(guided, inversion, condition, skip=SKIP if recorded.eta else 0)
    return last.x_prev


def test_same_ddim_inversion_as_ours(scene, x0):
    theirs = loops.invert_ddim(scene, x0)
    ours = finished(invert_ddim(classifier_free(scene.network, scene.empty, (1.0,)), x0, scene.source, steps=STEPS))[0]
    assert theirs.timesteps == list(ours.timesteps)
    assert (theirs.x - ours.x[:-1]).abs().max() < 1e-9


def test_same_regularised_inversion_as_ours(scene, x0):
    theirs = loops.invert_regularised(scene, x0)
    guided, options = classifier_free(scene.network, scene.empty, (1.0,)), {"seeds": [0], "regulariser": OFFICIAL}
    ours = finished(invert_regularised(guided, x0, scene.source, steps=STEPS, **options))[0]
    assert theirs.timesteps == list(ours.timesteps)
    assert torch.equal(theirs.x, ours.x[:-1])


def test_guidance_equals_ours_at_the_first_step(scene, x0):
    """At t = T both start from the source latent: the conditional half moves as ours does, the other half stays."""
    recorded = loops.invert_ddim(scene, x0)
    x, t = recorded.x[0], recorded.timesteps[0]
    pair, target = (type(scene.source).cat([scene.empty, each]) for each in (scene.source, scene.target))
    reference = next(iter(loops._reference_maps(scene, recorded, pair)))
    with carried_back(scene.network.unet) as rows:
        moved = loops.followed(scene.network, x.repeat(2, 1, 1, 1), t, target, reference)
    inversion = Inversion("ddim", torch.cat([recorded.x, x0[None]]), None, tuple(recorded.timesteps), 0.0, (1.0,))
    guided = with_source(classifier_free(scene.network, scene.empty, (1.0,)), inversion, scene.source)
    # the mean over two rows is half of ours
    ours = next(replay(guided, inversion, scene.target, shifts=[CrossAttentionGuidance(loops.FOLLOW / 2)])).x_t
    assert rows == [2]
    assert (moved[:1] - x).abs().max() < 1e-9
    assert (moved[1:] - x).abs().max() > 1e-7
    assert torch.allclose(moved[1:] - x, ours - x, rtol=1e-3, atol=1e-9)


def test_evaluations_without_gradient_have_no_backward_pass(scene, x0):
    with carried_back(scene.network.unet) as rows:
        loops.prompt_to_prompt(scene, loops.invert_ddim(scene, x0))
    assert rows == []


def test_failed_edit_is_reported_with_its_reason(capsys):
    assert editing.main([*ROUND, "--only", "edit-friendly", "--guidance", "1000"]) == 0
    assert "| edit-friendly | guidance_scale must be" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere"], "must be a Stable Diffusion pipeline folder"),
        (["--quick", "--steps", "5", "--skip", "5"], "--skip must be between 0 and 4"),
    ],
)
def test_invalid_arguments_are_refused(words, message, capsys):
    assert editing.main(words) == 2
    assert message in capsys.readouterr().err
