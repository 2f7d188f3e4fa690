"""Injection from the source equals the exchange in an explicit joint batch [source; negative; target]."""

import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.core.rows import NEGATIVE
from sfumato.core.shift import Shift
from sfumato.editing.job import Job
from sfumato.errors import BadInput
from sfumato.inversion import Inversion, replay
from sfumato.methods.plug_and_play import PlugAndPlayParams, injection
from sfumato.methods.prompt_to_prompt import PromptToPromptParams
from sfumato.methods.prompt_to_prompt import shifts as prompt_to_prompt
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.encoder_half import EncoderHalf
from sfumato.models.layout import decoder
from sfumato.models.load import load_model
from sfumato.models.taps import FromSource, Record, Replace
from sfumato.shifts.alignment import align
from tests.explicit import explicit

STEPS, STRENGTH = 5, 4.0
SOURCE, TARGET = ["red cat", "blue face star"], ["blue cat", "blue dog face"]


@pytest.fixture(scope="module", params=["sd", "sd2", "sdxl"])
def model(request, tiny_folder):
    return load_model(tiny_folder(request.param), "cpu")


@pytest.fixture(scope="module")
def sd(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


def prepared(model):
    """Guidance of the target, an inversion that consists of random latents, the source and the target condition."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS + 1, 2, model.latent_channels, 8, 12, generator=generator)
    z = torch.randn(x[1:].shape, generator=generator)
    timesteps = tuple(model.schedule.timesteps(STEPS))
    inversion = Inversion("edit-friendly", x, z, timesteps, 1.0, (1.0, 1.0), prompts=tuple(SOURCE))
    guided = classifier_free(model, model.condition(["", "tree"]), (STRENGTH, STRENGTH))
    return guided, inversion, model.condition(SOURCE), model.condition(TARGET)


def edit(guided, inversion, source, target, **options):
    """The job of an edit from one condition to another."""
    return Job(guided, inversion, source, target, target, **options)


def joint(model, guided, inversion, source, target, change):
    """The first step's noise of the target from one batch [source; negative; target] with explicit maps."""
    x, t = inversion.x[0], inversion.timesteps[0]
    conditions = Condition.cat([source, guided.condition_of(NEGATIVE), target])
    with torch.no_grad(), explicit(model, change):
        _, negative, positive = model.predict(x.repeat(3, 1, 1, 1), t, conditions).chunk(3)
    return negative + STRENGTH * (positive - negative)


def unguided(guided):
    """The same guidance at the scale 1, where the negative prediction cancels."""
    return classifier_free(guided.network, guided.condition_of(NEGATIVE), (1.0, 1.0))


def first(run):
    """The first step's noise."""
    return next(iter(run)).eps


def close(a, b):
    """Whether two tensors are equal up to float32 rounding by guidance and by batches of another size."""
    return torch.allclose(a, b, atol=2e-5 * float(1 + b.abs().max()))


def test_prompt_to_prompt_equals_explicit_exchange_of_maps(model):
    guided, inversion, source, target = prepared(model)
    params = PromptToPromptParams(self_tokens=24, reweight="dog=2,blue=0.5", cross_steps=1.0, self_steps=1.0)
    target = model.condition(["blue dog cat", "blue dog face"])
    alignment = align(source.prompts, target.prompts, target.tokens.shape[1], swap=True)
    weights = torch.ones(2, 1, 1, target.tokens.shape[1])
    for row, prompt in zip(weights, target.prompts, strict=True):
        row[..., prompt.positions("dog")] = 2
        row[..., prompt.positions("blue")] = 0.5

    def change(name, maps):
        maps = maps.clone()
        if name.endswith("attn2"):
            maps[4:] = (maps[:2] @ alignment.mix[:, None] + maps[4:] * alignment.own[:, None, None]) * weights
        elif maps.shape[2] <= 24:
            maps[4:] = maps[:2]
        return maps

    job = edit(guided, inversion, source, target)
    eps = first(job.run(prompt_to_prompt(job, params)))
    assert close(eps, joint(model, guided, inversion, source, target, change))
    plain = first(replay(guided, inversion, target))
    assert (eps - plain).abs().max() > 1e-2


def test_plug_and_play_equals_explicit_exchange(model):
    guided, inversion, source, target = prepared(model)
    layers = decoder(model.unet)
    fourth = len(layers) // 3
    decoders = {name for layer in layers[fourth:] for name in layer.self_attention}

    def change(name, maps):
        return maps[:2].repeat(3, 1, 1, 1) if name in decoders else maps

    module = model.unet.get_submodule(layers[fourth].residual)
    handle = module.register_forward_hook(lambda module, inputs, output: output[:2].repeat(3, 1, 1, 1))
    try:
        reference = joint(model, guided, inversion, source, target, change)
    finally:
        handle.remove()
    eps = first(edit(guided, inversion, source, target).run(injection(model, PlugAndPlayParams())))
    assert close(eps, reference)
    assert (eps - first(replay(guided, inversion, target))).abs().max() > 1e-2


def test_prompt_to_prompt_without_guidance(model):
    guided, inversion, source, target = prepared(model)
    job = edit(unguided(guided), inversion, source, target)
    shifts = prompt_to_prompt(job, PromptToPromptParams(self_steps=0.0, cross_steps=1.0))
    alignment = align(source.prompts, target.prompts, target.tokens.shape[1], swap=True)

    def change(name, maps):
        if not name.endswith("attn2"):
            return maps
        moved = maps[:2] @ alignment.mix[:, None] + maps[2:] * alignment.own[:, None, None]
        return torch.cat([maps[:2], moved])

    with torch.no_grad(), explicit(model, change):
        both = Condition.cat([source, target])
        reference = model.predict(inversion.x[0].repeat(2, 1, 1, 1), inversion.timesteps[0], both)[2:]
    assert close(first(job.run(shifts)), reference)


def test_injecting_the_source_into_itself_is_bit_identical(model):
    """Without guidance both evaluations have the same rows, so that nothing is rounded differently."""
    guided, inversion, source, _ = prepared(model)
    job = edit(unguided(guided), inversion, source, source, exact=True)
    plain = first(replay(job.guidance, inversion, source))
    everything = PromptToPromptParams(cross_steps=1.0, self_steps=1.0, self_tokens=10**4)
    for shifts in (prompt_to_prompt(job, everything), injection(model, PlugAndPlayParams())):
        assert torch.equal(first(job.run(shifts)), plain)


@pytest.mark.parametrize(("share", "steps"), [(0.0, 0), (0.09, 0), (0.2, 1), (0.5, 2), (0.7, 3), (1.0, 4)])
def test_cross_steps_is_a_fraction_of_the_steps_run(sd, share, steps):
    """Four of five steps are run; the source is evaluated only for the first of these, in one call."""
    guided, inversion, source, target = prepared(sd)
    params = PromptToPromptParams(cross_steps=share, self_steps=0.0)
    job = edit(guided, inversion, source, target, skip=1)
    with sd.counting() as count:
        states = list(job.run(prompt_to_prompt(job, params)))
    assert (count.calls, count.samples) == (4 + (steps > 0), 4 * 4 + 2 * steps)
    plain = list(replay(guided, inversion, target, skip=1))
    assert torch.equal(states[-1].x_prev, plain[-1].x_prev) == (steps == 0)
    assert all(state.x_t.shape == inversion.x[0].shape for state in states)


def test_batched_source_steps_equal_single_ones(model):
    """Also if the injected layers change during the run: self-attention for two steps, cross-attention for four."""
    guided, inversion, source, target = prepared(model)
    params = PromptToPromptParams(cross_steps=0.8, self_steps=0.4, self_tokens=24, blend="cat")
    runs = []
    for exact in (False, True):
        job = edit(guided, inversion, source, target, exact=exact)
        with model.counting() as count:
            states = list(job.run(prompt_to_prompt(job, params)))
        runs.append((torch.stack([state.eps for state in states]), count.samples))
    (together, rows), (alone, rows_alone) = runs
    assert rows == rows_alone == STEPS * (4 + 2)
    assert close(together[0], alone[0])
    assert close(together, alone)


class Watch(Shift):
    """A user-defined shift that records the number of rows, attention maps and features."""

    def __init__(self):
        self.maps, self.features, self.rows = RecordMaps(Layers(cross=True)), Record("mid_block"), set()

    def taps(self, state):
        self.rows.add(len(state.x_t))
        return (self.maps, self.features)[state.i % 2]


def test_user_shifts_receive_only_the_target_rows(sd):
    guided, inversion, source, target = prepared(sd)
    watch = Watch()
    job = edit(guided, inversion, source, target)
    list(job.run([*prompt_to_prompt(job, PromptToPromptParams(cross_steps=1.0, self_steps=0.0)), watch]))
    assert watch.rows == {2}
    assert {len(maps) for maps in watch.maps.maps.values()} == {4} == {len(watch.features.output)}


class LookAgain(Shift):
    """Adds taps of the prediction that change nothing."""

    def __init__(self):
        self.half = EncoderHalf()

    def taps(self, state):
        return self.half

    def prediction_taps(self, state):
        return Record("mid_block")


def test_prediction_taps_do_not_evaluate_the_source_again(sd):
    job, params = edit(*prepared(sd)), PromptToPromptParams(cross_steps=1.0, self_steps=0.0)
    with sd.counting() as count:
        looked = list(job.run([*prompt_to_prompt(job, params), LookAgain()]))
    plain = list(job.run(prompt_to_prompt(job, params)))
    assert torch.equal(looked[-1].x_prev, plain[-1].x_prev)
    assert count.samples == STEPS * (2 + 2 * 4)


class Meddling(Shift):
    def taps(self, state):
        return FromSource(Replace("mid_block", lambda output: output + 1), Record("mid_block"))


def test_replacing_features_of_the_source_is_refused(sd):
    with pytest.raises(BadInput, match="replaces the source's mid_block: taps of the source can only read"):
        first(edit(*prepared(sd)).run([Meddling()]))


def test_conflicting_shifts_are_refused_before_any_evaluation(sd):
    job = edit(*prepared(sd))
    prompt = prompt_to_prompt(job, PromptToPromptParams())
    plug = injection(sd, PlugAndPlayParams())
    for shifts in ([*prompt, *plug], [*plug, *plug], [*prompt, *prompt]):
        calls = sd.count.calls
        with pytest.raises(BadInput, match=r"Inject(Maps|Features) both replace"):
            next(job.run(shifts))
        assert sd.count.calls == calls
    apart = prompt_to_prompt(job, PromptToPromptParams(self_steps=0.0))
    next(job.run([*apart, *plug]))


def test_injection_without_a_source_is_refused(sd):
    guided, inversion, _, target = prepared(sd)
    with pytest.raises(BadInput, match="needs an inverted image as the source"):
        next(replay(guided, inversion, target, shifts=injection(sd, PlugAndPlayParams())))


def test_missing_attention_layers_are_refused(sd, tiny_ddpm_folder):
    with pytest.raises(BadInput, match="allow at least 24"):
        prompt_to_prompt(edit(*prepared(sd)), PromptToPromptParams(self_tokens=23))
    without = load_model(tiny_ddpm_folder, "cpu")
    without.unet.up_blocks[0].attentions = torch.nn.ModuleList()
    with pytest.raises(BadInput, match="set attention_steps to 0"):
        injection(without, PlugAndPlayParams())
