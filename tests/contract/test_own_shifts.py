"""User-defined shifts: alone, after those of methods, and refused where both replace the same."""

import pytest
import torch

from sfumato.core.energy import Energy
from sfumato.core.shift import WORDS, Shift
from sfumato.core.step import step
from sfumato.editing.registry import METHODS
from sfumato.inversion import replay
from tests.contract.composed import RUN, SOURCE, STEPS, TARGET, Own, job_of, refused


@pytest.mark.parametrize("kind", ["edit-friendly", "ddim", "regularised"])
def test_edit_without_methods_equals_the_plain_replay(sd, inverted_by, kind):
    inverted = inverted_by(kind, (0,))
    *_, last = inverted.edit_steps(TARGET[0], methods=[], **RUN)
    job = job_of(sd, inverted, TARGET[0])
    *_, plain = replay(job.guidance, job.inversion, job.condition, skip=job.skip)
    assert torch.equal(last.state.x_prev, plain.x_prev)


def test_user_shifts_run_after_method_shifts(sd, inverted_by):
    inverted, own, reference = inverted_by("edit-friendly", (0,)), Own(), Own()
    both = [("shift", {"right": 1}), ("pullback", {"gamma": 0.5})]
    *_, last = inverted.edit_steps(TARGET[0], methods=both, shifts=[own], **RUN)
    job = job_of(sd, inverted, TARGET[0])
    expected = []
    for name, options in both:
        method = METHODS.find(name)
        expected += method.shifts(job, method.params(steps=STEPS, **options, **RUN))
    *_, state = job.run([*expected, reference])
    assert torch.equal(last.state.x_prev, state.x_prev)
    assert all(torch.equal(z, torch.roll(job.inversion.z[i + 1], 1, -1)) for i, z in enumerate(own.seen))


class CubeOfLatent(Shift):
    """An energy with a known gradient; keeps the largest deviation from its gradient at the latent of every step."""

    def __init__(self):
        self.errors = []

    def energy(self, state):
        return Energy(lambda x, eps: (x**3).sum(dim=(1, 2, 3)))

    def noise(self, state, eps):
        self.errors.append(float((state.gradient(self) - 3 * state.x_t**2).abs().max()))
        return eps


@pytest.mark.parametrize("method", [("shift", {"right": 2}), ("pullback", {"gamma": 1.0})])
def test_gradients_belong_to_the_latent_that_a_method_has_moved(inverted_by, method):
    shift = CubeOfLatent()
    list(inverted_by("edit-friendly", (0,)).edit_steps(TARGET[0], methods=[method], shifts=[shift], **RUN))
    assert len(shift.errors) == STEPS - 1
    assert max(shift.errors) < 1e-4


class Outside(Shift):
    """Counts, in every step, the cells of the next latent that equal the source."""

    keeps_source = True

    def __init__(self):
        self.held = []

    def noise_map(self, state, z):
        apart = (step(state.mean, z, state.sigma) - state.source[state.t_prev]).abs().amax(dim=1)
        self.held.append(int((apart < 1e-6).sum()))
        return z


@pytest.mark.parametrize("first", [True, False])
def test_local_blend_keeps_source_cells_with_quality_boost(inverted_by, first):
    blend = {"blend": "cat", "blend_start": 0.0, "blend_threshold": 0.5, "cross_steps": 0.0, "self_steps": 0.0}
    names = [("prompt-to-prompt", blend), ("pullback", {"gamma": 0.0, "boost": 1.0})]
    outside = Outside()
    run = inverted_by("edit-friendly", (0,)).edit_steps(
        TARGET[0], methods=names if first else names[::-1], shifts=[outside], **RUN
    )
    assert len(list(run)) == len(outside.held)
    assert min(outside.held) > 0


@pytest.mark.parametrize("methods", [None, []])
def test_user_shifts_without_a_method(sd, inverted_by, methods):
    inverted, own = inverted_by("edit-friendly", (0,)), Own()
    *_, last = inverted.edit_steps(TARGET[0], methods=methods, shifts=[own], **RUN)
    job = job_of(sd, inverted, TARGET[0])
    *_, state = job.run([Own()])
    assert torch.equal(last.state.x_prev, state.x_prev)
    assert len(own.seen) == STEPS - 1
    under_source = inverted.edit(methods=methods, shifts=[Own()], **RUN)
    assert under_source.report["parameters"]["prompts"] == [SOURCE[0]], "a shift needs no target prompt"


class Meddling(Shift):
    """Declares the same replacements as a shift of a method."""

    def __init__(self, shift):
        self.shift = shift

    def replaces(self, i, steps):
        return self.shift.replaces(i, steps)


def test_user_shift_conflicting_with_a_method_is_refused(sd, inverted_by):
    inverted = inverted_by("edit-friendly", (0,))
    job, method = job_of(sd, inverted, TARGET[0]), METHODS.find("plug-and-play")
    shift = Meddling(method.shifts(job, method.params(steps=STEPS))[0])
    work = {"methods": ["plug-and-play"], "shifts": [shift], **RUN}
    message = r"same steps: leave one of them out, or set the fraction of the steps of plug-and-play to 0\.$"
    refused(sd, message, lambda: inverted.edit_steps(TARGET[0], **work))
    inverted.edit_steps(TARGET[0], **work | {"methods": ["colour"]})


class Words(Shift):
    """Declares that it replaces the words of the prompt."""

    def replaces(self, i, steps):
        return (WORDS,)


def test_conflicting_shifts_of_a_generation_are_refused_by_the_call(sd):
    refused(sd, "Words and Words both replace the words", lambda: sd.generate_steps("a cat", shifts=[Words(), Words()]))


@pytest.mark.parametrize("methods", [[], [("prompt-to-prompt", {"blend": "cat", "cross_steps": 0.0})]])
def test_refusal_names_the_fraction_of_the_steps_only_where_there_is_one(sd, inverted_by, methods):
    shifts = [Words()] if methods else [Words(), Words()]
    run = {"methods": methods, "shifts": shifts, **RUN}
    refused(
        sd,
        r"same steps: leave one of them out\.$",
        lambda: inverted_by("edit-friendly", (0,)).edit_steps("a cat", **run),
    )
