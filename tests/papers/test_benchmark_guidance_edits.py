"""The edits of the guidance benchmark: both loops end at the same latent, and all evaluations are as expected."""

import pytest

from benchmarks import diffuseit_loop, guidance_edits
from benchmarks.rounds import Outcome, count
from sfumato.bench.contenders import Task
from sfumato.metrics import DualEncoder, VisionEncoder, evaluator
from sfumato.models.load import load_model
from tests.metrics.test_text import save_clip
from tests.tiny import tiny_image

pytestmark = pytest.mark.slow

STEPS, SKIP = 5, 1
RUNS = 3
"""Number of times that the first step of DiffuseIT is run; random weights amplify rounding errors in every run."""
VISITS = STEPS - SKIP + RUNS - 1


@pytest.fixture(scope="module")
def network(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


@pytest.fixture
def both(network, tmp_path, monkeypatch):
    """sfumato's contender and that of the public loop, by the name of the edit; small networks compute the losses."""
    monkeypatch.setitem(network.settings, "diffuseit", {"inversion": "edit-friendly", "loss_scale": 0.1, "resample": 1})
    save_clip(tmp_path / "clip")
    monkeypatch.setattr(evaluator, "SHIPPED", str(tmp_path / "clip"))
    monkeypatch.setattr(diffuseit_loop, "RESAMPLED", RUNS)
    task = Task(tmp_path, tiny_image(), "red cat", "blue dog", STEPS, SKIP, 1.0, 1.0)

    def made(name):
        ours, theirs = (make() for make in guidance_edits.contenders(task, network, tmp_path)[name])
        if name == "diffuseit":
            ours.options |= {"resample": RUNS}
        return ours, theirs

    return made


def latents(ours, **options):
    """x_0 of the edit by sfumato."""
    given = {"guidance_scale": 1.0, "residual": False} | options
    *_, last = ours.inverted.edit_steps(ours.task.target, **given)
    return last.state.x_prev


@pytest.mark.parametrize(
    ("name", "still", "tolerance"), [("diffuseit", {"loss_scale": 0.0}, 1e-3), ("asyrp", {"amount": 0.0}, 1e-5)]
)
def test_both_loops_end_at_the_same_latent(both, name, still, tolerance):
    ours, theirs = both(name)
    for side in (ours, theirs):
        side.invert()
    expected = latents(ours)
    allowed = tolerance * expected.abs().max()
    found = theirs.loop.edit(theirs.scene, theirs.inversion)
    assert (found - expected).abs().max() < allowed
    assert (latents(ours, **still) - expected).abs().max() > 10 * allowed, "the method changes the edit"


def cost(contender):
    found = Outcome()
    count(contender, found)
    return found.calls, found.samples, found.backward


def test_evaluations_of_diffuseit(both):
    """Ours uses the evaluation with gradients for the step, too; the inversion needs none."""
    ours, theirs = map(cost, both("diffuseit"))
    assert ours == (VISITS, VISITS, VISITS)
    assert theirs == (2 * VISITS, 2 * VISITS, VISITS)


def test_evaluations_of_asyrp(both, network):
    """The decoder half is evaluated again in the edited steps by ours, in all steps by the public loop."""
    edited = sum(t >= guidance_edits.T_EDIT for t in network.schedule.timesteps(STEPS))
    assert 0 < edited < STEPS
    ours, theirs = map(cost, both("asyrp"))
    assert ours == (2 * STEPS + edited, 2 * STEPS + edited, 0)
    assert theirs == (2 * STEPS + 2 * STEPS, 2 * STEPS + 2 * STEPS, 0)


@pytest.fixture
def passes(monkeypatch):
    """Whether gradients are computed, for every forward pass of the ViT and of the image encoder of CLIP."""
    seen = {"ViT": [], "CLIP": []}

    def watch(name, owner, method):
        plain = getattr(owner, method)

        def watched(self, pixels):
            seen[name].append(pixels.requires_grad)
            return plain(self, pixels)

        monkeypatch.setattr(owner, method, watched)

    watch("ViT", VisionEncoder, "keys_and_class_token")
    watch("CLIP", DualEncoder, "embed")
    return seen


def test_passes_of_the_loss_networks_of_diffuseit(both, network, passes):
    """Public: each of three losses passes its reference and the prediction; the divergence only at high noise levels.

    Ours: one pass for all losses, and one of the source image for the run. CLIP: the source, then once in every run.
    """
    run = network.schedule.timesteps(STEPS)[SKIP:]
    visited = [run[0]] * (RUNS - 1) + run
    above = sum(t > 500 for t in visited)
    assert 0 < above < len(visited)
    found = []
    for side in both("diffuseit"):
        side.invert()
        passes["ViT"].clear(), passes["CLIP"].clear()
        side.edit()
        found.append({name: (each.count(False), each.count(True)) for name, each in passes.items()})
    ours, theirs = found
    assert ours == {"ViT": (1, VISITS), "CLIP": (1, VISITS)}
    assert theirs == {"ViT": (2 * VISITS + above, 2 * VISITS + above), "CLIP": (1, VISITS)}
