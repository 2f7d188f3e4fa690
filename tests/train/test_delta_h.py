"""Training of a delta-h: its loss and gradient against a second implementation, interval, resuming, invalid recipes."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.metrics.perceptual import load_perceptual
from sfumato.models.load import load_model
from sfumato.models.taps import Replace
from sfumato.shifts.delta_h import DeltaH
from sfumato.train import asymmetric
from sfumato.train.asymmetric import BOOST, BOOST_SHARE, EDIT, EDIT_SHARE, Prepared, interval, smallest
from sfumato.train.delta_h import FILE, text_feature
from sfumato.train.loop import Run
from sfumato.train.start import build_task
from tests.train.small import DUAL_ENCODER, small_recipe, trained
from tests.train.toy import contents, equal

STEPS, T_EDIT, IMAGES = 4, 400, 6
LOSS = {"source": "a red disc", "target": "a blue square", "t_edit": T_EDIT, "l1": 0.5}


@pytest.fixture(scope="session")
def dual_encoder(tmp_path_factory, image_folder):
    """The folder of a small dual encoder trained on the images."""
    folder = tmp_path_factory.mktemp("dual encoder")
    run = trained(small_recipe("dual-encoder", image_folder, 3, DUAL_ENCODER), folder / "run")
    run.export(folder / "export")
    run.close()
    return str(folder / "export")


@pytest.fixture
def recipe(image_folder, dual_encoder, tiny_sd_folder):
    """`recipe(steps, kind=..., source=...)` for the tiny Stable Diffusion, with a large factor for a visible effect."""

    def made(steps=2, *, kind="block", batch=3, lr=3e-3, layout=tiny_sd_folder, **loss):
        network = {"model": str(layout), "clip": dual_encoder, "steps": STEPS, "images": IMAGES}
        network |= {"kind": kind, "factor": 10.0}
        return small_recipe("delta-h", image_folder, steps, network, batch=batch, lr=lr, **LOSS | loss)

    return made


def loss_of(task, rows):
    """The loss L of some images, from complete evaluations of the network."""
    frozen, model = task.module.frozen, task.model
    timesteps, x, condition = frozen.timesteps, frozen.found.x_T[rows], frozen.conditions[rows]
    total, edited = 0.0, [t for t in timesteps if t >= T_EDIT]
    for k, t in enumerate(edited):
        with torch.no_grad():
            eps = model.predict(x, t, condition)
        tap = Replace("mid_block", lambda h, t=t: h + task.module.delta(h.detach(), t))
        a, b = model.schedule.abar(t), model.schedule.abar(timesteps[k + 1])
        moved = model.predict(x, t, condition, [tap])
        prediction = (x.double() - (1 - a) ** 0.5 * moved.double()) / a**0.5
        before = frozen.found.predictions[k][rows].double()

        def features(latents):
            pixels = (model.decode(latents.float()) + 1) / 2
            return F.normalize(frozen.clip.embed(frozen.clip.preprocessor(pixels)), dim=-1)

        changed = features(prediction) - features(before)
        texts = [text_feature(frozen.clip, ("{}",), text) for text in (LOSS["source"], LOSS["target"])]
        cosine = (changed @ (texts[1] - texts[0])) / changed.norm(dim=-1) / (texts[1] - texts[0]).norm()
        total = total + (1 - cosine).mean() + LOSS["l1"] * (prediction - before).abs().mean()
        x = (b**0.5 * prediction + (1 - b) ** 0.5 * eps.double()).detach()
    return total / len(edited)


@pytest.mark.parametrize("kind", ["block", "steps"])
def test_loss_and_gradient_equal_complete_evaluations(recipe, tmp_path, kind):
    task = build_task(recipe(kind=kind), tmp_path)
    rows = torch.tensor([0, 3, 4])
    loss, scalars = task.module({"rows": rows})
    expected = loss_of(task, rows)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert scalars["direction"] + LOSS["l1"] * scalars["l1"] == pytest.approx(loss.item(), rel=1e-5)
    parameters = list(task.module.parameters())
    assert len(parameters) == sum(1 for _ in task.module.delta.parameters()), "only delta-h is trained"
    found, wanted = (torch.autograd.grad(each, parameters) for each in (loss, expected))
    scale = max(each.abs().max() for each in wanted)
    for one, two in zip(found, wanted, strict=True):
        assert (one - two).abs().max() <= 1e-3 * scale
    assert all(p.grad is None for p in task.model.unet.parameters())


def test_loss_is_the_mean_over_the_batch(recipe, tmp_path):
    module = build_task(recipe(), tmp_path).module
    together, *alone = (module({"rows": torch.tensor(rows)})[0].item() for rows in ([1, 5], [1], [5]))
    assert together == pytest.approx(sum(alone) / 2, rel=1e-4)
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)


@pytest.mark.parametrize("kind", ["block", "steps"])
def test_loss_decreases(recipe, tmp_path, kind):
    run = Run(build_task(recipe(12, kind=kind, lr=0.02), tmp_path), recipe(12, kind=kind, lr=0.02), tmp_path, "cpu")
    losses = [report.scalars["delta_h/loss"] for report in run.steps()]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4]), losses


def test_resumed_run_equals_an_uninterrupted_one(recipe, tmp_path):
    trained(recipe(4), tmp_path / "whole").close()
    trained(recipe(2), tmp_path / "parts").close()
    trained(recipe(4), tmp_path / "parts").close()
    (one, _), (two, _) = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert equal(one, two)


def test_a_resumed_run_keeps_its_texts_and_its_interval(recipe, tmp_path, monkeypatch):
    measured = recipe(1, t_edit=-1)
    run = trained(measured, tmp_path)
    before = run.task.t_edit
    run.close()
    monkeypatch.setattr("sfumato.train.delta_h.interval", lambda *_, **__: (1, 1))
    assert build_task(measured, tmp_path).t_edit == before != 1
    monkeypatch.setattr("sfumato.train.delta_h.interval", lambda *_, **__: (1, 999))
    assert build_task(recipe(1, t_edit=-1, t_boost=-1), tmp_path).t_boost == before, "boosting begins after the edit"
    with pytest.raises(BadInput, match=r"trained with another loss\.target"):
        build_task(recipe(1, target="a green disc"), tmp_path)
    with pytest.raises(BadInput, match=r"trained with another network\.kind"):
        build_task(recipe(1, kind="steps"), tmp_path)
    changed = recipe(2, t_edit=1)
    with pytest.raises(BadInput, match=r"trained with another loss\.t_edit"):
        Run(build_task(changed, tmp_path), changed, tmp_path, "cpu")


def test_export_is_loaded_as_a_delta_h(recipe, tmp_path, tiny_sd_folder):
    run = trained(recipe(2, attribute="blue"), tmp_path)
    run.export(tmp_path / "export")
    run.task.sample(tmp_path / "samples", 2)
    assert (tmp_path / "samples" / "step-00000002.png").is_file()
    saved, model = DeltaH.load(tmp_path / "export" / FILE), load_model(str(tiny_sd_folder), "cpu")
    saved.check_fits(model, (8, 8))
    assert (saved.attribute, saved.source, saved.target) == ("blue", LOSS["source"], LOSS["target"])
    assert saved.timesteps == tuple(t for t in model.schedule.timesteps(STEPS) if t >= T_EDIT)
    assert (saved.steps, saved.t_edit, saved.factor) == (STEPS, T_EDIT, 10.0)
    with run.trained.ema_weights():
        own = {name: value.clone() for name, value in run.task.module.delta.state_dict().items()}
    assert all(torch.equal(value, own[name]) for name, value in saved.network.state_dict().items())


def test_prepared_predictions_are_those_of_the_unedited_process(recipe, tmp_path, dual_encoder):
    task = build_task(recipe(), tmp_path)
    found, model, perceptual = task.module.frozen.found, task.model, load_perceptual(dual_encoder)
    x, condition, decoded = found.x_T, task.module.frozen.conditions, []
    for k, t in enumerate(task.timesteps):
        a = model.schedule.abar(t)
        b = model.schedule.abar(task.timesteps[k + 1] if k + 1 < STEPS else -1)
        with torch.no_grad():
            eps = model.predict(x, t, condition).double()
        prediction = (x - (1 - a) ** 0.5 * eps) / a**0.5
        assert torch.allclose(found.predictions[k].double(), prediction, rtol=1e-3, atol=1e-3 * prediction.abs().max())
        decoded.append((model.decode(prediction), model.decode(x)))
        x = b**0.5 * prediction + (1 - b) ** 0.5 * eps
    with torch.no_grad():
        for k, (of_prediction, of_latent) in enumerate(decoded):
            for curve, pixels in ((found.edit_curve, of_prediction), (found.boost_curve, of_latent)):
                assert torch.allclose(curve[k], perceptual(model.decode(x), pixels), rtol=1e-2, atol=1e-3)


def test_inverted_images_are_computed_once(recipe, tmp_path, monkeypatch):
    first = build_task(recipe(), tmp_path)
    monkeypatch.setattr(asymmetric, "_run", None)
    again = build_task(recipe(source="a green disc"), tmp_path)
    assert torch.equal(again.module.frozen.found.x_T, first.module.frozen.found.x_T)
    with pytest.raises(TypeError):
        build_task(dataclasses.replace(recipe(), network=recipe().network | {"steps": 5}), tmp_path)


def test_a_process_that_is_not_the_first_creates_the_cache(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(asymmetric, "is_first", lambda: False)
    assert build_task(recipe(), tmp_path / "run").image_count == IMAGES


def curves(edit, boost):
    """Curves of two images with the given means; the other fields are empty."""
    columns = [torch.tensor(values)[:, None] + torch.tensor([[-0.01, 0.01]]) for values in (edit, boost)]
    return Prepared(*[torch.zeros(0)] * 3, *columns)


def test_interval_is_where_the_curves_reach_their_thresholds():
    timesteps = [801, 601, 401, 201]
    found = curves([0.50, 0.40, 0.30, 0.10], [1.4, 1.3, 1.25, 0.8])
    assert interval(found, timesteps, 1.0, learned=True) == (601, 401)
    assert interval(found, timesteps, 0.9, learned=True) == (401, 401), f"{EDIT} x 0.9 and {BOOST}"
    assert interval(found, timesteps, 0.3, learned=True) == (201, 401), "t_boost does not depend on t_edit"
    relative = curves([0.050, 0.040, 0.030, 0.010], [0.14, 0.13, 0.125, 0.08])
    assert interval(relative, timesteps, 1.0, learned=False) == (401, 401), f"{EDIT_SHARE} and {BOOST_SHARE} of the top"
    assert smallest(torch.tensor([0.3, 0.2]), [801, 601], 0.5) == 801


def test_a_measured_t_boost_is_limited_by_the_t_edit_that_is_used(recipe, tmp_path, monkeypatch):
    """The measured t_edit is the last timestep here; with a larger one in the recipe, t_boost is larger too."""
    monkeypatch.setattr(asymmetric, "EDIT_SHARE", 0.0)
    monkeypatch.setattr(asymmetric, "BOOST_SHARE", 1.0)
    measured = build_task(recipe(t_edit=-1, t_boost=-1), tmp_path)
    assert measured.t_edit == measured.t_boost == measured.timesteps[-1]
    given = build_task(recipe(t_edit=measured.timesteps[0], t_boost=-1), tmp_path)
    assert given.t_boost == given.t_edit == measured.timesteps[0]


REFUSED = {
    "equal texts": ({"target": "a red disc"}, {}, "must differ"),
    "a template without a place": ({"templates": ("a disc",)}, {}, "one {} each"),
    "a text of two lines": ({"target": "a\ndisc"}, {}, "texts in one line"),
    "no text": ({"source": " "}, {}, "texts in one line"),
    "an interval without steps": ({"t_edit": 999}, {}, "at most 751, the first timestep, not 999"),
    "another kind": ({}, {"network": {"kind": "lookup"}}, "block or steps"),
    "scenes": ({}, {"data": {"scenes": 8}}, "single complete images"),
    "fp16": ({}, {"run": {"precision": "fp16"}}, "would lose the gradients"),
    "a size off the grid": ({}, {"data": {"size": 30}}, "multiples of 8"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_recipes_are_refused(recipe, tmp_path, what):
    loss, tables, sentence = REFUSED[what]
    made = recipe(**loss)
    for table, values in tables.items():
        own = getattr(made, table)
        changed = own | values if isinstance(own, dict) else dataclasses.replace(own, **values)
        made = dataclasses.replace(made, **{table: changed})
    with pytest.raises(BadInput, match=sentence) as caught:
        build_task(made, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_interval_without_steps_is_refused_before_the_images_are_inverted(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.train.delta_h.open_images", None)
    with pytest.raises(BadInput, match="at most 751, the first timestep, not 752"):
        build_task(recipe(t_edit=752), tmp_path)


def test_model_without_text_encoder_is_trained(recipe, tmp_path, tiny_ddpm_folder):
    run = trained(recipe(1, layout=tiny_ddpm_folder), tmp_path)
    run.export(tmp_path / "export")
    DeltaH.load(tmp_path / "export" / FILE).check_fits(load_model(str(tiny_ddpm_folder), "cpu"), (32, 32))
