"""Cross-attention guidance: its loss, its gradient against finite differences, and the unchanged network."""

import pytest
import torch

from sfumato.core.guidance import classifier_free
from sfumato.core.rows import NEGATIVE, TARGET
from sfumato.core.shift import Shift
from sfumato.errors import BadInput, NonFinite
from sfumato.inversion import Inversion, replay, with_source
from sfumato.models.attention import RecordMaps
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model
from sfumato.shifts.attention_guidance import (
    CROSS,
    CrossAttentionGuidance,
    FollowAttentionPerCondition,
    attention_loss,
    published_guidance,
)
from tests.explicit import attention_of, explicit

STEPS = 5


@pytest.fixture(scope="module", params=["sd", "sd2", "sdxl"])
def model(request, tiny_folder):
    return load_model(tiny_folder(request.param), "cpu")


@pytest.fixture(scope="module")
def sd(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


def prepared(model):
    """Guidance, an inversion that consists of random latents, the source and the target condition."""
    x = torch.randn(STEPS + 1, 2, model.latent_channels, 8, 12, generator=torch.Generator().manual_seed(0))
    inversion = Inversion("ddim", x, None, tuple(model.schedule.timesteps(STEPS)), 0.0, (1.0, 1.0))
    guided = classifier_free(model, model.condition(["", ""]), (4.0, 4.0))
    return guided, inversion, model.condition(["red cat", "tree"]), model.condition(["green dog", "blue star"])


def run(guided, inversion, source, target, *shifts):
    """The steps of a replay under the target prompt with the source."""
    return replay(with_source(guided, inversion, source), inversion, target, shifts=shifts)


def attention_maps(model, x, t, condition):
    """The maps of every cross-attention layer."""
    record = RecordMaps(CROSS)
    model.predict(x, t, condition, [record])
    return record.maps


def loss_of(model, inversion, source, target, i, x):
    reference = attention_maps(model, inversion.x[i], inversion.timesteps[i], source)
    return attention_loss(attention_maps(model, x, inversion.timesteps[i], target), reference)


def test_loss_equals_that_of_diffusers_attention_maps(model):
    _, inversion, source, target = prepared(model)
    x, t = inversion.x[0], inversion.timesteps[0]
    seen = []
    for condition in (source, target):
        with torch.no_grad(), explicit(model, lambda name, maps: maps) as maps:
            model.predict(x, t, condition)
        seen.append({name: each.clone() for name, each in maps.items() if name.endswith("attn2")})
    layers = [(seen[1][name] - seen[0][name]).square().sum(dim=(2, 3)).mean(dim=1) for name in seen[0]]
    with torch.no_grad():
        assert torch.allclose(loss_of(model, inversion, source, target, 0, x), sum(layers), rtol=1e-4)


def test_first_gradient_equals_finite_differences(tiny_folder):
    model = load_model(tiny_folder("sd"), "cpu")
    model.unet.double()
    guided, inversion, source, target = prepared(model)
    inversion = Inversion("ddim", inversion.x.double(), None, inversion.timesteps, 0.0, (1.0, 1.0))
    x = inversion.x[0]
    moved = next(run(guided, inversion, source, target, CrossAttentionGuidance(2.0))).x_t
    gradient = (x - moved) / 2.0
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 1e-4).all()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _ in range(4):
            v = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            ahead, behind = (loss_of(model, inversion, source, target, 0, x + h * v) for h in (1e-5, -1e-5))
            assert torch.allclose((gradient * v).sum(dim=(1, 2, 3)), (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-9)


def test_gradient_of_the_public_code_is_zero_at_first(sd):
    guided, inversion, source, target = prepared(sd)
    public = CrossAttentionGuidance(100.0, NEGATIVE, guided.condition_of(NEGATIVE))
    states = list(run(guided, inversion, source, target, public))
    assert (states[0].x_t - inversion.x[0]).abs().max() < 1e-5
    assert (states[1].x_t - states[0].x_prev).abs().max() > 1e-4


def test_guidance_reduces_the_loss_in_every_step(model):
    guided, inversion, source, target = prepared(model)
    with model.counting() as count:
        led = list(run(guided, inversion, source, target, CrossAttentionGuidance(3.0)))
    of_source = 1  # all steps of the source in one call
    assert (count.calls, count.samples) == (of_source + 2 * STEPS, STEPS * (2 + 2 + 4))
    free = list(replay(guided, inversion, target))
    with torch.no_grad():
        for i in range(STEPS):
            ours, theirs = (loss_of(model, inversion, source, target, i, each[i].x_t).sum() for each in (led, free))
            assert ours < theirs


def test_images_of_a_batch_are_independent(sd):
    guided, inversion, source, target = prepared(sd)
    together = next(run(guided, inversion, source, target, CrossAttentionGuidance(3.0))).x_t
    by_itself = next(run(guided.rows([1]), inversion.rows([1]), source[1], target[1], CrossAttentionGuidance(3.0))).x_t
    assert torch.allclose(together[1:], by_itself, atol=1e-5)


def test_source_as_target_does_not_move_the_latent(sd):
    guided, inversion, source, _ = prepared(sd)
    state = next(run(guided, inversion, source, source, CrossAttentionGuidance(3.0)))
    assert (state.x_t - inversion.x[0]).abs().max() < 1e-6


def test_per_condition_guidance_moves_only_the_target_prediction(sd):
    """x_t does not move; the prediction under the target prompt is the one at x_t - lambda grad."""
    guided, inversion, source, target = prepared(sd)
    moved = next(run(guided, inversion, source, target, CrossAttentionGuidance(3.0))).x_t
    state = next(run(guided, inversion, source, target, FollowAttentionPerCondition(3.0)))
    assert torch.equal(state.x_t, inversion.x[0])
    with torch.no_grad():
        negative = sd.predict(state.x_t, state.t, guided.condition_of(NEGATIVE))
        own = sd.predict(moved, state.t, target)
    torch.testing.assert_close(state.eps, negative + 4 * (own - negative), rtol=1e-4, atol=1e-5)


class Add(Shift):
    def latent(self, state, x):
        return x + 1


@pytest.mark.parametrize("first", [True, False])
def test_rows_of_every_condition_follow_the_steps_of_other_shifts(sd, monkeypatch, first):
    """The guidance of the public code, next to a shift that adds 1 to x_t: its two copies of x_t are moved by 1."""
    guided, inversion, source, target = prepared(sd)
    seen, predict = [], DiffusionModel.predict

    def watched(self, x, t, cond=None, taps=None):
        if cond is not None and cond.names == (NEGATIVE, TARGET):
            seen.append(x.detach())
        return predict(self, x, t, cond, taps)

    monkeypatch.setattr(DiffusionModel, "predict", watched)
    pair = published_guidance(6.0, guided.condition_of(NEGATIVE))
    next(run(guided, inversion, source, target, *pair))
    next(run(guided, inversion, source, target, *([Add(), *pair] if first else [*pair, Add()])))
    assert not torch.allclose(*seen[0].chunk(2), atol=1e-3)
    torch.testing.assert_close(seen[1], seen[0] + 1, rtol=1e-5, atol=1e-5)


class Stop(Shift):
    def noise(self, state, eps):
        if state.i == 1:
            raise RuntimeError("stopped")
        return eps


def test_network_is_unchanged_after_runs_and_errors(sd):
    guided, inversion, source, target = prepared(sd)
    layers = attention_of(sd)
    processors = {name: layer.processor for name, layer in layers.items()}
    with pytest.raises(RuntimeError, match="stopped"):
        list(run(guided, inversion, source, target, CrossAttentionGuidance(1.0), Stop()))
    state = next(run(guided, inversion, source, target, CrossAttentionGuidance(1.0)))
    assert not state.x_prev.requires_grad
    assert all(layer.processor is processors[name] for name, layer in layers.items())
    assert not any(len(module._forward_hooks) for name, module in sd.unet.named_modules() if "attn" in name)
    assert all(p.grad is None and not p.requires_grad for p in sd.unet.parameters())


def test_non_finite_gradient_is_refused_with_its_name(sd):
    guided, inversion, source, target = prepared(sd)
    broken = source[[0, 1]]
    broken.tokens[0, 3] = torch.nan
    with pytest.raises(NonFinite, match=r"Step 1 of 5 .*gradient of cross-attention guidance"):
        next(run(guided, inversion, broken, target, CrossAttentionGuidance(1.0)))


def test_guidance_without_a_source_is_refused(sd):
    guided, inversion, _, target = prepared(sd)
    with pytest.raises(BadInput, match="needs an inverted image as the source"):
        next(replay(guided, inversion, target, shifts=[CrossAttentionGuidance(1.0)]))
