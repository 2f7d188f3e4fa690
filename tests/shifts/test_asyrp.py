"""The asymmetric process of Asyrp against a second implementation; cost, unchanged parts, files and refusals."""

import dataclasses

import pytest
import torch

from sfumato.core.energy import Energy
from sfumato.core.guidance import Guided, Term, classifier_free
from sfumato.core.loop import reverse
from sfumato.core.rows import NEGATIVE, TARGET
from sfumato.core.shift import Shift
from sfumato.core.step import direction, to_float64
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.taps import Replace
from sfumato.shifts.asyrp import Asyrp
from sfumato.shifts.boost import QualityBoost
from sfumato.shifts.delta_h import DeltaH
from sfumato.shifts.delta_networks import DeltaBlock
from tests import delta as untrained

STEPS, T_EDIT = 5, 400
GROWN = 40.0
"""Factor with which the delta-h of a random network clearly changes the latents."""


@pytest.fixture(scope="module", params=["sd", "sd2", "sdxl", "ddpm"])
def model(request, tiny_folder):
    return load_model(tiny_folder(request.param), "cpu")


@pytest.fixture(scope="module")
def sd(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


def delta_of(model, size=(8, 12), **changes):
    """An untrained delta-h for the run of these tests."""
    return untrained.delta_of(model, size, STEPS, **changes)


def start(model, size=(8, 12)):
    """x_T of two images and their condition."""
    x = torch.randn(2, model.latent_channels, *size, generator=torch.Generator().manual_seed(0))
    return x, model.condition(["red cat", "blue dog"] if model.takes_text else ["", ""])


def plain(model):
    return Guided(model, (Term(TARGET, None),))


def run(guided, model, shifts, size=(8, 12)):
    """Every step of a deterministic run."""
    x, condition = start(model, size)
    timesteps = model.schedule.timesteps(STEPS)
    return list(reverse(guided, x, timesteps, condition, eta=0.0, noise_maps=lambda state: None, shifts=shifts))


def asymmetric_ddim(model, x, condition, change, t_edit):
    """Asyrp in a few lines: `change(h, t)` is added to h in the prediction of x_0."""
    timesteps = model.schedule.timesteps(STEPS)
    for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        a, b = model.schedule.abar(t), model.schedule.abar(t_prev)
        eps = moved = model.predict(x, t, condition)
        if t >= t_edit:
            moved = model.predict(x, t, condition, [Replace("mid_block", lambda h, t=t: h + change(h, t))])
        prediction = (x.double() - (1 - a) ** 0.5 * moved.double()) / a**0.5
        x = (b**0.5 * prediction + (1 - b) ** 0.5 * eps.double()).float()
    return x


@torch.no_grad()
@pytest.mark.parametrize("kind", ["block", "steps"])
def test_run_equals_the_asymmetric_process(model, kind):
    delta = delta_of(model, kind=kind)
    states = run(plain(model), model, [Asyrp([delta], [GROWN])])
    expected = asymmetric_ddim(model, *start(model), lambda h, t: GROWN * delta(h, t), T_EDIT)
    scale = expected.abs().max()
    assert (states[-1].x_prev - expected).abs().max() <= 1e-6 * scale
    unedited = asymmetric_ddim(model, *start(model), None, 10_000)
    assert (unedited - expected).abs().max() > 1e-2 * scale, "the edit shows"


@torch.no_grad()
def test_direction_is_kept_and_only_edited_predictions_change(model):
    """D_t of every step is that of the noise without delta-h, at the same latent."""
    states = run(plain(model), model, [Asyrp([delta_of(model)], [GROWN])])
    for state in states:
        eps = model.predict(state.x_t, state.t, state.condition)
        assert torch.equal(state.eps, eps)
        left = state.x_prev.double() - state.abar_prev**0.5 * state.x0_prediction
        assert torch.allclose(left, direction(eps, state.abar_prev, 0.0), atol=1e-5 * float(state.x_prev.abs().max()))
        own = (to_float64(state.x_t) - (1 - state.abar) ** 0.5 * to_float64(eps)) / state.abar**0.5
        assert torch.equal(state.x0_prediction, own) == (state.t < T_EDIT)


def test_zero_delta_h_is_bit_identical_to_no_shift(model):
    delta = delta_of(model)
    torch.nn.init.zeros_(delta.network.out.weight)
    torch.nn.init.zeros_(delta.network.out.bias)
    expected = run(plain(model), model, [])
    for weight in (1.0, 0.0):
        states = run(plain(model), model, [Asyrp([delta], [weight])])
        assert all(torch.equal(one.x_prev, two.x_prev) for one, two in zip(states, expected, strict=True))


def test_several_attributes_are_summed_in_one_evaluation(model):
    one, two = delta_of(model, seed=1), delta_of(model, seed=2)

    class Sum(Shift):
        def prediction_taps(self, state):
            if state.t < T_EDIT:
                return None
            return Replace("mid_block", lambda h: h + (GROWN * one(h, state.t) - 20 * two(h, state.t)))

    with model.counting() as count:
        states = run(plain(model), model, [Asyrp([one, two], [GROWN, -20.0])])
    edited = sum(state.t >= T_EDIT for state in states)
    assert count.calls == STEPS + edited
    expected = run(plain(model), model, [Sum()])[-1].x_prev
    assert torch.allclose(states[-1].x_prev, expected, atol=1e-6 * float(expected.abs().max()))
    alone = run(plain(model), model, [Asyrp([one], [GROWN])])[-1].x_prev
    assert not torch.allclose(alone, expected, atol=1e-3 * float(expected.abs().max()))


def test_edited_steps_repeat_only_the_decoder(model):
    runs = {"conv_in": 0, "conv_out": 0}

    def counted(name):
        def hook(*_):
            runs[name] += 1

        return getattr(model.unet, name).register_forward_hook(hook)

    handles = [counted(name) for name in runs]
    states = run(plain(model), model, [Asyrp([delta_of(model)], [1.0])])
    for handle in handles:
        handle.remove()
    assert runs == {"conv_in": STEPS, "conv_out": STEPS + sum(state.t >= T_EDIT for state in states)}


class Small(Shift):
    """An energy under one condition, whose gradient does not change the run."""

    def __init__(self, under):
        self.under = under

    def energy(self, state):
        return Energy(lambda x, eps: eps.square().sum(dim=(1, 2, 3)), under=self.under)


@pytest.mark.parametrize("under", [(), (TARGET,), (NEGATIVE,), (TARGET, NEGATIVE)], ids=str)
def test_encoder_half_of_split_evaluations_is_reused(sd, under):
    """With an energy, the conditions of the guidance are evaluated one after the other; each row is encoded once."""
    rows = {"conv_in": 0, "conv_out": 0}

    def counted(name):
        def hook(module, inputs, output):
            rows[name] += len(output)

        return getattr(sd.unet, name).register_forward_hook(hook)

    guided, shifts = classifier_free(sd, sd.condition(["", ""]), (3.0, 3.0)), [Asyrp([delta_of(sd)], [GROWN])]
    expected = run(guided, sd, shifts)[-1].x_prev
    handles = [counted(name) for name in rows]
    found = run(guided, sd, [*shifts, *map(Small, under)])
    for handle in handles:
        handle.remove()
    assert rows == {"conv_in": 4 * STEPS, "conv_out": 4 * STEPS + 4 * sum(state.t >= T_EDIT for state in found)}
    torch.testing.assert_close(found[-1].x_prev, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_delta_h_applies_to_all_guidance_conditions(sd):
    """eps~ = e_0~ + s (e_c~ - e_0~)."""
    delta, negative, scale = delta_of(sd), sd.condition(["", ""]), 3.0
    state = run(classifier_free(sd, negative, (scale, scale)), sd, [Asyrp([delta], [GROWN])])[0]
    tap = [Replace("mid_block", lambda h: h + GROWN * delta(h, state.t))]
    e_0, e_c = (sd.predict(state.x_t, state.t, each, tap) for each in (negative, state.condition))
    guided = e_0 + scale * (e_c - e_0)
    expected = (to_float64(state.x_t) - (1 - state.abar) ** 0.5 * to_float64(guided)) / state.abar**0.5
    assert torch.allclose(state.x0_prediction, expected, rtol=1e-4, atol=1e-4)


def test_t_edit_of_each_file_and_of_the_shift(sd):
    early, late = delta_of(sd, seed=1, t_edit=700), delta_of(sd, seed=2, t_edit=300)

    def changed(shift):
        states = run(plain(sd), sd, [shift])
        return {state.t for state in states if shift.taps(state) is not None}

    timesteps = sd.schedule.timesteps(STEPS)
    assert changed(Asyrp([early], [1.0])) == {t for t in timesteps if t >= 700}
    assert changed(Asyrp([early, late], [1.0, 1.0])) == {t for t in timesteps if t >= 300}
    assert changed(Asyrp([early, late], [1.0, 0.0])) == {t for t in timesteps if t >= 700}
    assert changed(Asyrp([early, late], [1.0, 1.0], t_edit=500)) == {t for t in timesteps if t >= 500}


def test_quality_boost_changes_only_steps_below_t_boost(sd):
    """Steps from t_boost = 300 up equal those of the edit without boost; the others differ."""
    shift, seeds = Asyrp([delta_of(sd)], [GROWN]), (0, 1)
    edited, boosted = run(plain(sd), sd, [shift]), run(plain(sd), sd, [shift, QualityBoost(300, seeds)])
    for one, two in zip(edited, boosted, strict=True):
        assert torch.equal(one.x_prev, two.x_prev) == (one.t >= 300)


def test_untrained_timesteps_use_the_nearest_trained_one(sd):
    delta = delta_of(sd, kind="steps")
    h = torch.zeros(1, *delta.shape)
    for k, t in enumerate(delta.timesteps):
        assert torch.equal(delta(h, t)[0], delta.network.values[k])
        assert torch.equal(delta(h, t - 20)[0], delta.network.values[k])
        assert torch.equal(delta(h, t + 20)[0], delta.network.values[k])


@pytest.mark.parametrize("kind", ["block", "steps"])
def test_save_and_load(sd, tmp_path, kind):
    delta = delta_of(sd, kind=kind)
    delta.save(tmp_path / "d.safetensors")
    loaded = DeltaH.load(tmp_path / "d.safetensors")
    for name in (each.name for each in dataclasses.fields(DeltaH) if each.name != "network"):
        assert getattr(loaded, name) == getattr(delta, name), name
    assert loaded.kind == kind
    h = torch.randn(2, *delta.shape, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(loaded(h, t), delta(h, t)) for t in delta.timesteps)
    assert loaded.on("cpu") is loaded


def test_another_model_layer_or_shape_is_refused(sd, tiny_folder):
    other = load_model(tiny_folder("sd2"), "cpu")
    refused = [
        (delta_of(sd), other, (8, 12), "another model or precision"),
        (delta_of(sd, layer="up_blocks.0"), sd, (8, 12), r"for the layer up_blocks\.0"),
        (delta_of(sd, kind="steps"), sd, (8, 8), r"for h of the shape \[16, 4, 6\], not \[16, 4, 4\]"),
    ]
    for delta, network, size, sentence in refused:
        with pytest.raises(BadInput, match=sentence) as caught:
            delta.check_fits(network, size)
        assert "\n" not in str(caught.value)
    delta_of(sd).check_fits(sd, (8, 8))
    delta_of(sd, kind="steps").check_fits(sd, (8, 12))


DAMAGED = {
    "a wrong shape": {"shape": [32, 4, 6]},
    "an enormous shape": {"shape": [10**9, 4, 6]},
    "a negative shape": {"shape": [-16, 4, 6]},
    "no timesteps": {"timesteps": []},
    "timesteps that ascend": {"timesteps": [401, 601, 801]},
    "timesteps below t_edit": {"t_edit": 500},
    "another kind": {"kind": "lookup"},
    "a text that is none": {"attribute": 3},
    "a text of two lines": {"attribute": "a\nb"},
    "too few steps": {"steps": 1},
    "a boost that is none": {"t_boost": True},
    "a factor out of range": {"factor": 1e5},
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_refused(sd, tmp_path, what):
    delta = delta_of(sd)
    names = ("attribute", "source", "target", "model", "layer", "kind", "steps", "t_edit", "t_boost", "factor")
    header = {name: getattr(delta, name) for name in (*names, "shape", "timesteps")} | DAMAGED[what]
    DeltaH.FORMAT.write(tmp_path / "d.safetensors", header, delta.network.state_dict())
    with pytest.raises(BadInput, match="is not a delta-h, or is damaged: train it again"):
        DeltaH.load(tmp_path / "d.safetensors")


def test_non_finite_weights_are_refused(sd, tmp_path):
    delta = delta_of(sd)
    assert isinstance(delta.network, DeltaBlock)
    delta.network.out.weight[0, 0] = torch.nan
    delta.save(tmp_path / "d.safetensors")
    with pytest.raises(BadInput, match="or is damaged"):
        DeltaH.load(tmp_path / "d.safetensors")
