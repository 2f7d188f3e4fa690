"""The guidance benchmark: the Attend-and-Excite loop equals the method, evaluation counts, and memory."""

import json

import pytest
import torch

from benchmarks import guidance, guidance_loops
from benchmarks.guidance_memory import WORK, kept
from benchmarks.rounds import Outcome, count
from sfumato.core.state import StepEnd
from sfumato.editing.generate import generate
from sfumato.editing.registry import METHODS
from sfumato.methods.attend_and_excite import AttendAndExciteParams
from sfumato.models.load import load_model

pytestmark = pytest.mark.slow

STEPS = 6
GUIDED = STEPS // 2


@pytest.fixture(scope="module")
def scene(tiny_sd_folder):
    network = load_model(tiny_sd_folder, "cpu")
    return guidance_loops.Scene(network, "red heart and cat, noto", STEPS, 3.0)


def test_attend_and_excite_loop_ends_at_the_same_latent(scene, monkeypatch):
    """Here no threshold is reached; if one is reached, the authors' loop refines once more."""
    monkeypatch.setattr(guidance_loops, "MOST", 3)
    loop = guidance_loops.AttendAndExcite(scene, guidance.neglected)
    params = AttendAndExciteParams(objects="heart, cat", refinements=3)
    shifts = METHODS.find("attend-and-excite").shifts(scene.job(), params)
    shape = scene.network.latent_shape(*scene.network.native_size)
    *_, end = generate(scene.guided(), shape, scene.conditions()[0], scene.params, seeds=[0], shifts=shifts)
    assert isinstance(end, StepEnd)
    torch.testing.assert_close(end.x_prev, loop.run(), rtol=1e-3, atol=1e-3)


def test_evaluation_counts_of_guidance(scene):
    """Ours needs two rows per step, and one with a gradient per guided step, for any number of energies."""
    costs = {}
    for name in ("self-guidance", "five energies"):
        kind, terms, methods = guidance.CASES[name]
        for who, contender in (
            ("ours", guidance.Ours(scene, methods)),
            ("theirs", guidance.Theirs(scene, kind, terms)),
        ):
            costs[name, who] = Outcome()
            count(contender, costs[name, who])
    assert {costs[name, "ours"].backward for name in ("self-guidance", "five energies")} == {GUIDED}
    assert {costs[name, "ours"].samples for name in ("self-guidance", "five energies")} == {2 * STEPS}
    assert costs["self-guidance", "theirs"].samples == 2 * 2 * STEPS
    assert costs["five energies", "theirs"].samples == 2 * STEPS + 5 * GUIDED
    assert costs["five energies", "theirs"].backward == 5 * GUIDED


def test_evaluation_counts_of_attend_and_excite(scene, monkeypatch):
    """Each step: one conditional row and a guidance pair. Each refinement: three calls of one row; one at the end."""
    monkeypatch.setattr(guidance_loops, "MOST", 2)
    monkeypatch.setattr(guidance_loops, "THRESHOLDS", {0.0: 1.0, 1 / 3: 1.0})
    cost = Outcome()
    count(guidance.Theirs(scene, guidance_loops.AttendAndExcite, guidance.neglected), cost)
    assert cost.calls == 2 * STEPS + 2 * (3 * 2 + 1)
    assert cost.samples == 3 * STEPS + 2 * (3 * 2 + 1)
    assert cost.backward == GUIDED + 2 * 2


def test_the_script_writes_all_cases(tmp_path, monkeypatch):
    monkeypatch.setattr(guidance_loops, "MOST", 2)
    out = tmp_path / "report.json"
    assert guidance.main(["--quick", "--repeats", "1", "--out", str(out)]) == 0
    cases = json.loads(out.read_text())["cases"]
    assert list(cases) == [*guidance.CASES, "diffuseit", "asyrp"]
    assert not any(side["problem"] for pair in cases.values() for side in pair)


@pytest.mark.parametrize("work", list(WORK.values()))
def test_checkpointing_saves_memory(work):
    """Less is kept with checkpointing, and the blocks are counted; the next test checks an exact count."""
    size = {"channels": 32, "text": 64, "side": 16}
    plain, saving = (kept(work, checkpointing=each, **size) for each in (False, True))
    assert 0 < saving.total < plain.total
    assert 0 < max(plain.blocks.values()) < plain.total


def test_saved_tensors_are_counted_once():
    from benchmarks.guidance_memory import Kept

    found = Kept()
    with torch.device("meta"):
        layer, x = torch.nn.Linear(8, 4, bias=False), torch.empty(3, 8, requires_grad=True)
    with found.counting(layer):
        (layer(x).exp() * x.sum()).sum()
    # x for the weight's gradient, exp's result for itself and the product, and the sum, which the product needs
    assert found.total == 4 * (3 * 8 + 3 * 4 + 1)
