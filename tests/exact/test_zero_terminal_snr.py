"""At abar_t = 0, P_t and D_t equal closed forms and diffusers' values, in runs, inversions and edits."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import sfumato
from sfumato.core.guidance import classifier_free
from sfumato.core.loop import recorded, reverse
from sfumato.core.step import mean, noise_in, noise_that_leads_to, per_row, predict_x0, to_epsilon
from sfumato.errors import BadInput
from sfumato.inversion.ddim import invert_ddim
from sfumato.inversion.edit_friendly import invert_edit_friendly
from sfumato.inversion.native_ddpm import invert_native
from sfumato.inversion.regularised import invert_regularised
from sfumato.models.pipelines import from_pipeline
from tests import tiny

ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pipe(tiny_folder):
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder("sd"), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(params=["v_prediction", "sample"])
def zero(request, pipe):
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, **ZERO, prediction_type=request.param)
    return pipe


@pytest.fixture
def double(zero):
    """The pipeline in float64, for runs of four steps; rounding errors are about 1e-15."""
    scheduler = zero.scheduler
    scheduler.set_timesteps(4)
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = (
        each.double() for each in (scheduler.alphas_cumprod, scheduler.final_alpha_cumprod)
    )
    yield zero.to(torch.float64)
    zero.to(torch.float32)


@pytest.fixture
def outputs(double):
    """The outputs of the network, in the order of its evaluations."""
    found = []
    hook = double.unet.register_forward_hook(lambda module, inputs, output: found.append(output[0].detach()))
    yield found
    hook.remove()


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_steps_equal_closed_forms_in_every_row(kind):
    """Rows of a batch at abar = 0 and above it: P_t, D_t and mu_t as diffusers' scheduler defines them."""
    x, output, levels = noise(3, 4, 2, 2), noise(3, 4, 2, 2, seed=1), [0.0, 0.3, 0.0]
    eps = to_epsilon(output, x, per_row(levels, x), kind)
    rows = per_row(levels, x)
    P, inside = predict_x0(x, eps, rows), noise_in(x, eps, rows)
    for n, abar in enumerate(levels):
        alpha, rest = math.sqrt(abar), math.sqrt(1 - abar)
        x_n, out = x[n : n + 1].double(), output[n : n + 1].double()
        expected = alpha * x_n - rest * out if kind == "v_prediction" else out
        theirs = alpha * out + rest * x_n if kind == "v_prediction" else (x_n - alpha * out) / rest
        torch.testing.assert_close(P[n : n + 1], expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(inside[n : n + 1], theirs, atol=1e-12, rtol=0)
        one = to_epsilon(out, x_n, abar, kind)
        torch.testing.assert_close(predict_x0(x_n, one, abar), expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(noise_that_leads_to(expected, x_n, abar), one, atol=1e-12, rtol=0)
        found = mean(x_n, one, one, abar, 0.4, 0.1)
        torch.testing.assert_close(found, 0.4**0.5 * expected + (0.6 - 0.01) ** 0.5 * theirs, atol=1e-12, rtol=0)


def test_gradients_of_the_prediction_are_finite():
    x, output = noise(2, 4, 2, 2).double().requires_grad_(), noise(2, 4, 2, 2, seed=1).double()
    rows = per_row([0.0, 0.5], x)
    P = predict_x0(x, to_epsilon(output * x, x, rows, "v_prediction"), rows)
    (found,) = torch.autograd.grad(P.sum(), x)
    torch.testing.assert_close(found[0], -output[0], atol=1e-12, rtol=0)
    assert found.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 4.0])
@torch.no_grad()
def test_run_equals_the_diffusers_pipeline(zero, scale):
    model, x = from_pipeline(zero), noise(2, 4, 8, 8)
    prompts = ["red apple", "a blue cat"]
    guided = classifier_free(model, model.condition(["", ""]), (scale, scale))
    timesteps = model.schedule.timesteps(10)
    assert timesteps[0] == 999
    assert model.schedule.abar(999) == 0
    steps = list(reverse(guided, x, timesteps, model.condition(prompts), eta=0.0, noise_maps=recorded(None)))
    expected = zero(prompts, latents=x.clone(), num_inference_steps=10, guidance_scale=scale, output_type="latent")
    torch.testing.assert_close(steps[-1].x_prev, expected.images, atol=2e-5, rtol=1e-5)
    zero.scheduler.set_timesteps(10)
    conditions = zero.encode_prompt(prompts, "cpu", 1, True)[:2]
    raw = [zero.unet(x, 999, encoder_hidden_states=each).sample for each in reversed(conditions)]
    raw = raw[0] + scale * (raw[1] - raw[0]) if scale != 1 else raw[1]
    first = zero.scheduler.step(raw, 999, x)
    rounding = 2e-6 * (2 * scale - 1)  # guidance s multiplies the rounding errors of both predictions by s and s - 1
    torch.testing.assert_close(steps[0].x0_prediction.float(), first.pred_original_sample, atol=rounding, rtol=1e-6)


@torch.no_grad()
def test_inversions_reconstruct_the_image(zero):
    """Inversions with noise maps reproduce x_0; x_T has a standard deviation near 1."""
    model, x0 = from_pipeline(zero), noise(2, 4, 8, 8, seed=3)
    condition = model.condition(["red apple", "a blue cat"])
    guided = classifier_free(model, model.condition(["", ""]), (2.0, 2.0))
    for invert in (invert_edit_friendly, invert_native):
        run = invert(guided, x0, condition, steps=8, eta=1.0, seeds=(1, 2), exact=True)
        inversion = finished(run)
        *_, last = reverse(guided, inversion.x[0], inversion.timesteps, condition, eta=1.0,
                           noise_maps=recorded(inversion.z))  # fmt: skip
        torch.testing.assert_close(last.x_prev, x0, atol=1e-5, rtol=1e-5)
        assert abs(float(inversion.x[0].std()) - 1) < 0.1


def step_of_diffusers(pipe, t, x):
    tokens, _ = pipe.encode_prompt("red apple", "cpu", 1, False)
    return pipe.scheduler.step(pipe.unet(x, t, encoder_hidden_states=tokens).sample, t, x)


@torch.no_grad()
def test_refined_ddim_inversion_inverts_the_first_step_of_diffusers(double):
    model, x0 = from_pipeline(double), noise(1, 4, 8, 8, seed=3)
    condition = model.condition(["red apple"])
    inversion = finished(invert_ddim(model_guided(model), x0, condition, steps=4, refine=20))
    theirs = step_of_diffusers(double, 999, inversion.x[0]).prev_sample
    torch.testing.assert_close(theirs, inversion.x[1], atol=1e-12, rtol=0)
    first = next(reverse(model, inversion.x[0], inversion.timesteps, condition, eta=0.0, noise_maps=recorded(None)))
    torch.testing.assert_close(first.x_prev, inversion.x[1], atol=1e-12, rtol=0)


@torch.no_grad()
def test_regularised_inversion_does_not_change_the_velocity(double):
    """At abar_T = 0, x_T is the noise of x_1 for the prediction of diffusers at x_1."""
    model, x0 = from_pipeline(double), noise(1, 4, 8, 8, seed=3)
    condition = model.condition(["red apple"])
    x_T, x_1, *_ = finished(invert_regularised(model_guided(model), x0, condition, steps=4, seeds=(0,))).x
    P, abar = step_of_diffusers(double, 999, x_1).pred_original_sample, double.scheduler.alphas_cumprod[749]
    torch.testing.assert_close(x_T, (x_1 - abar.sqrt() * P) / (1 - abar).sqrt(), atol=1e-12, rtol=0)


def test_inversion_of_a_single_step_is_refused(zero):
    model = from_pipeline(zero)
    with pytest.raises(BadInput, match="cannot be inverted: use more steps"):
        finished(invert_ddim(model_guided(model), noise(1, 4, 8, 8), model.condition(["red apple"]), steps=1))


def model_guided(model):
    return classifier_free(model, None, (1.0,))


def finished(run):
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def test_epsilon_prediction_is_refused(pipe):
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, **ZERO, prediction_type="epsilon")
    with pytest.raises(BadInput, match="does not determine the image"):
        from_pipeline(pipe).schedule.timesteps(10)


@pytest.mark.parametrize("method", ["prompt-to-prompt", "plug-and-play", "pix2pix-zero", "sdedit"])
def test_steps_of_methods_equal_those_of_diffusers(method, double, outputs):
    """Given the output of the network in every step, which the taps of the method may have changed."""
    eta = 0.0 if method in ("pix2pix-zero", "sdedit") else 0.5
    inverted = sfumato.Model.from_pipe(double).invert(tiny.tiny_image(), "red cat", method=method, steps=4, eta=eta)
    run, timesteps = inverted.edit_steps("blue cat", skip=0, guidance_scale=1.0, residual=False), []
    for each in run:
        state = each.state
        x, none = state.x_t.double(), torch.zeros_like(state.x_t)
        theirs = double.scheduler.step(outputs[-1], state.t, x, eta=eta, variance_noise=none)
        torch.testing.assert_close(state.x0_prediction, theirs.pred_original_sample, atol=1e-12, rtol=0)
        torch.testing.assert_close(state.mean, theirs.prev_sample, atol=1e-12, rtol=0)
        timesteps.append(state.t)
    assert timesteps == [999, 749, 499, 249]
    pixels = double.vae.decode(state.x_prev.double() / double.vae.config.scaling_factor).sample[0].permute(1, 2, 0)
    levels = (127.5 * (pixels + 1)).clamp(0, 255).numpy()
    assert abs(run.result.pixels[0] - levels).max() < 0.5 + 1e-3, "rounded to 8 bits"
