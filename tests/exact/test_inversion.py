"""Reconstruction by inversions: exact ones are bit-exact, batched ones are within their stated error."""

import numpy as np
import pytest
import torch

from sfumato.core.guidance import classifier_free
from sfumato.core.loop import recorded, reverse
from sfumato.errors import BadInput, NonFinite
from sfumato.inversion import Inversion, invert_ddim, invert_edit_friendly, invert_native
from sfumato.inversion.native_ddpm import native_latents
from tests.exact.toy import (
    Constant,
    Convolution,
    finished,
    linear_schedule,
    prompt,
    stable_diffusion_schedule,
)

SQUARE, WIDE = (2, 4, 16, 16), (2, 4, 12, 20)


def clean(shape, seed=7):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def guided(network, rows=2, guidance_scale=3.5):
    return classifier_free(network, prompt(rows, 0.0), (guidance_scale,) * rows)


def replay(inversion, network, cond, skip=0):
    run = reverse(
        network,
        inversion.x[skip],
        inversion.timesteps[skip:],
        cond,
        eta=inversion.eta,
        noise_maps=recorded(None if inversion.z is None else inversion.z[skip:]),
    )
    return list(run)


RUNS = [
    (invert_edit_friendly, prediction, shape, steps)
    for prediction in ("epsilon", "v_prediction", "sample")
    for shape in (SQUARE, WIDE)
    for steps in (20, 50, 100)
]


@pytest.mark.parametrize(("invert", "prediction", "shape", "steps"), [*RUNS, (invert_native, "epsilon", WIDE, 50)])
def test_exact_replay_is_bit_exact(invert, prediction, shape, steps):
    network = guided(Convolution(stable_diffusion_schedule(prediction)))
    x0, cond = clean(shape), prompt(2)
    inversion, _ = finished(invert(network, x0, cond, steps=steps, seeds=[0, 1], exact=True))
    states = replay(inversion, network, cond)
    for i, state in enumerate(states[:-1]):
        assert torch.equal(state.x_prev, inversion.x[i + 1]), i
    assert (states[-1].x_prev - x0).abs().max() <= 1e-6


def test_native_latents_are_continuous_in_eta():
    """Standard deviations too small for noise maps add no noise, as in a deterministic run."""
    network, x0 = guided(Convolution(stable_diffusion_schedule())), clean(SQUARE)
    timesteps = network.schedule.timesteps(10)
    tiny, none = (native_latents(network, x0, timesteps, eta, [0, 1]) for eta in (1e-12, 0.0))
    small = native_latents(network, x0, timesteps, 1e-4, [0, 1])
    assert torch.equal(tiny, none)
    assert (small - none).abs().max() < 0.01


@pytest.mark.parametrize("eta", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("final", [1.0, 0.99915])
@pytest.mark.parametrize("offset", [0, 1])
def test_reconstruction_with_any_eta_and_final_level(eta, final, offset):
    """If the last step adds no noise, its noise map is the residual, and x_0 is reconstructed as well."""
    schedule = stable_diffusion_schedule(final_alpha_cumprod=final, steps_offset=offset)
    network, x0, cond = guided(Convolution(schedule)), clean(SQUARE), prompt(2)
    inversion, _ = finished(invert_edit_friendly(network, x0, cond, steps=30, eta=eta, seeds=[0, 1], exact=True))
    assert (replay(inversion, network, cond)[-1].x_prev - x0).abs().max() <= 1e-6


@pytest.mark.parametrize("shape", [SQUARE, WIDE])
@pytest.mark.parametrize("steps", [20, 50, 100])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_inversion_in_batches_over_timesteps(shape, steps, prediction):
    network = Convolution(stable_diffusion_schedule(prediction))
    x0, cond = clean(shape), prompt(2)
    inversion, _ = finished(invert_edit_friendly(guided(network), x0, cond, steps=steps, seeds=[0, 1], batch=32))
    assert network.samples == 4 * steps
    assert network.calls == -(-steps // 8)
    assert max(rows for rows, *_ in network.shapes) <= 32
    assert (replay(inversion, guided(network), cond)[-1].x_prev - x0).abs().max() <= 1e-5


def test_reconstruction_from_any_step():
    network, x0, cond = guided(Convolution(linear_schedule())), clean(SQUARE), prompt(2)
    inversion, _ = finished(invert_edit_friendly(network, x0, cond, steps=20, seeds=[0, 1], exact=True))
    for skip in (1, 7, 19):
        assert (replay(inversion, network, cond, skip)[-1].x_prev - x0).abs().max() <= 1e-6


def test_guidance_scale_one_evaluates_single_rows():
    network, x0, cond = Convolution(linear_schedule()), clean(SQUARE), prompt(2)
    finished(invert_edit_friendly(guided(network, guidance_scale=1.0), x0, cond, steps=10, seeds=[0, 1], exact=True))
    assert (network.calls, network.samples) == (10, 20)


def test_noise_does_not_depend_on_the_batch():
    network, x0, cond = Convolution(linear_schedule()), clean((3, 4, 8, 8)), prompt(3)
    together, _ = finished(invert_edit_friendly(guided(network, 3), x0, cond, steps=10, seeds=[5, 6, 7], exact=True))
    alone, _ = finished(invert_edit_friendly(guided(network, 1), x0[1:2], prompt(1), steps=10, seeds=[6], exact=True))
    assert torch.equal(together.x[0, 1], alone.x[0, 0])
    assert (together.z[:, 1] - alone.z[:, 0]).abs().max() < 1e-3


def test_edit_friendly_maps_are_larger_and_anticorrelated():
    """Fig. 4 of the paper: variance above the native one, neighbouring maps negatively correlated."""
    network, x0, cond = guided(Convolution(linear_schedule())), clean(SQUARE), prompt(2)
    friendly, _ = finished(invert_edit_friendly(network, x0, cond, steps=50, seeds=[0, 1]))
    native, _ = finished(invert_native(network, x0, cond, steps=50, seeds=[0, 1]))

    def correlation(z):
        a, b = z[5:40].flatten(1), z[6:41].flatten(1)
        return float(torch.nn.functional.cosine_similarity(a, b, dim=1).mean())

    middle = slice(10, 40)
    assert friendly.z[middle].var() > 2 * native.z[middle].var()
    assert correlation(friendly.z) < -0.3
    assert abs(correlation(native.z)) < 0.3


@pytest.mark.parametrize("schedule", [stable_diffusion_schedule(), linear_schedule()])
@pytest.mark.parametrize("steps", [1, 20, 50, 100])
def test_ddim_round_trip_with_constant_noise(schedule, steps):
    """With a constant network the inversion is exact, so that an off-by-one error would be visible."""
    network, x0 = guided(Constant(schedule, clean((1, 4, 8, 8), 3))), clean((2, 4, 8, 8))
    inversion, states = finished(invert_ddim(network, x0, prompt(2), steps=steps))
    assert len(states) == steps
    again = replay(inversion, network, prompt(2))
    assert len(again) == steps
    assert again[0].t == inversion.timesteps[0] == states[-1].t
    assert (again[-1].x_prev - x0).abs().max() <= 1e-5


def test_nan_error_names_the_step():
    class Broken(Convolution):
        def predict(self, x, t, cond, taps=None):
            eps = super().predict(x, t, cond)
            return torch.where(torch.as_tensor(t).reshape(-1, 1, 1, 1) == 700, torch.nan, eps)

    network, x0 = guided(Broken(linear_schedule())), clean(SQUARE)
    for exact in (True, False):
        with pytest.raises(NonFinite, match=r"Step 3 of 10 \(timestep 700\): the predicted noise"):
            finished(invert_edit_friendly(network, x0, prompt(2), steps=10, seeds=[0, 1], exact=exact))


def test_grad_mode_is_unchanged():
    network, x0 = guided(Convolution(linear_schedule())), clean(SQUARE)
    for _ in invert_edit_friendly(network, x0, prompt(2), steps=3, seeds=[0, 1]):
        assert torch.is_grad_enabled()


@pytest.fixture
def inversion():
    network, x0 = guided(Convolution(linear_schedule())), clean(SQUARE)
    made, _ = finished(invert_edit_friendly(network, x0, prompt(2), steps=5, seeds=[3, 4]))
    return made


def test_save_and_load(inversion, tmp_path):
    inversion.save(tmp_path / "a.safetensors")
    loaded = Inversion.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.x, inversion.x)
    assert torch.equal(loaded.z, inversion.z)
    for name in ("kind", "timesteps", "eta", "guidance_scales", "seeds", "prompts", "parameters", "model", "images"):
        assert getattr(loaded, name) == getattr(inversion, name)
    assert [f.name for f in tmp_path.iterdir()] == ["a.safetensors"]


def test_load_of_other_or_damaged_files_is_refused(inversion, tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(BadInput, match="no file"):
        Inversion.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(BadInput, match='is a text that begins with "hello"'):
        Inversion.load(tmp_path / "text.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="not an inversion"):
        Inversion.load(tmp_path / "other.safetensors")
    inversion.save(tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    for size in np.linspace(0, len(content) - 1, 12).astype(int):
        (tmp_path / "cut.safetensors").write_bytes(content[:size])
        with pytest.raises(BadInput):
            Inversion.load(tmp_path / "cut.safetensors")


def test_save_to_a_missing_folder_is_refused(inversion, tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        inversion.save(tmp_path / "missing" / "a.safetensors")


def test_another_model_is_refused(inversion):
    from dataclasses import replace

    made = replace(inversion, model="a" * 64)
    made.check_model("a" * 64)
    with pytest.raises(BadInput, match="another model"):
        made.check_model("b" * 64)
