"""`sfumato.testing.check_method`: methods of this package pass, and violations of the contract are detected."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sfumato.core.shift import Shift
from sfumato.editing.registry import METHODS, method
from sfumato.errors import BadInput
from sfumato.methods.edit_friendly import EditFriendlyParams
from sfumato.options.option import option
from sfumato.options.params import Params
from sfumato.testing import check_method
from tests import third_party

ANNOTATED = '''
"""A method whose module leaves its annotations unevaluated."""
from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.shift import Shift
from sfumato.methods.edit_friendly import EditFriendlyParams
from sfumato.editing.job import Job
from sfumato.options.option import option
from sfumato.editing.registry import method


@dataclass(frozen=True)
class Params(EditFriendlyParams):
    whole: int = option(1, "an integer", stage="edit", low=0, high=9)
    real: float = option(0.0, "a number", stage="edit", low=0, high=1)
    text: str = option("", "a text", stage="edit")
    switch: bool = option(False, "a switch", stage="edit")


@dataclass(frozen=True, eq=False)
class Scaled(Shift):
    by: float

    def noise(self, state, eps):
        return (1 + self.by) * eps


@method("annotated", summary="scales the noise", params=Params, inversion="edit-friendly", handles=("noise",))
def shifts(job: Job, params: Params) -> list[Shift]:
    return [Scaled(params.real)]
'''


@pytest.fixture
def register(monkeypatch):
    """Register a method for the duration of a test."""
    third_party.read_again(monkeypatch, METHODS)
    list(METHODS)

    def add(make, params=EditFriendlyParams):
        method("broken", summary="breaks a promise", params=params, inversion="edit-friendly", handles=("noise",))(make)

    return add


@pytest.mark.parametrize(("name", "reconstructs"), [("edit-friendly", True), ("sdedit", False)])
def test_methods_of_this_package_pass(name, reconstructs, tmp_path):
    check_method(name, reconstructs=reconstructs, folder=tmp_path)


def test_a_method_with_unevaluated_annotations_works(sfumato, tiny_sd_folder, monkeypatch, tmp_path_factory):
    third_party.install(monkeypatch, tmp_path_factory.mktemp("site"), METHODS, "annotated", ANNOTATED)
    check_method("annotated")
    words = ("--to", "green cat", "-o", "out.png", "--steps", 3, "--skip", 0, "--model", tiny_sd_folder)
    own = ("--method", "annotated", "--whole", 3, "--real", 0.5, "--switch")
    run = sfumato("edit", "photo.png", *words, *own, "--json")
    used = run.json["parameters"]
    assert [used[name] for name in ("whole", "real", "text", "switch")] == [3, 0.5, "", True]
    refused = sfumato("edit", "photo.png", *words, "--method", "annotated", "--whole", 10).err
    assert "whole must be between 0 and 9" in refused


class Remembering(Shift):
    calls = 0

    def noise(self, state, eps):
        Remembering.calls += 1
        return eps * (1 + 0.01 * Remembering.calls)


class Random(Shift):
    def noise(self, state, eps):
        torch.rand(())
        return eps


class MixesRows(Shift):
    def noise(self, state, eps):
        return eps - 0.5 * eps.mean(dim=0, keepdim=True)


class Doubled(Shift):
    def noise(self, state, eps):
        return 2 * eps


def hooked(job, params):
    job.network.unet.register_forward_hook(lambda *_: None)
    return []


def hooked_text(job, params):
    job.network.text_encoders[0].encoder.register_forward_hook(lambda *_: None)
    return []


def changed_autoencoder(job, params):
    next(job.network.codec.module.parameters()).data.add_(1e-6)
    return []


class RestoresGenerator(Shift):
    """Draws from a global generator and restores its state in the last step."""

    def __init__(self, get, draw, put):
        self.get, self.draw, self.put, self.before = get, draw, put, None

    def noise(self, state, eps):
        if self.before is None:
            self.before = self.get()
        self.draw()
        if state.i == state.steps - 1:
            self.put(self.before)
        return eps

    def for_run(self):
        return RestoresGenerator(self.get, self.draw, self.put)


def restored_torch(job, params):
    return [RestoresGenerator(torch.get_rng_state, lambda: torch.rand(()), torch.set_rng_state)]


def restored_numpy(job, params):
    return [RestoresGenerator(np.random.get_state, np.random.random, np.random.set_state)]


@dataclass(frozen=True)
class OnlySteps(Params):
    """Parameters without skip and guidance scales."""

    steps: int = option(20, "number of steps of the run", stage="invert", low=1, high=1000)
    eta: float = option(1.0, "noise per step", stage="invert", above=0, high=1)
    exact: bool = option(False, "one timestep per evaluation", stage="invert")


def test_a_method_without_skip_and_guidance_scale_passes(register):
    register(lambda job, params: [], OnlySteps)
    check_method("broken")


@dataclass(frozen=True)
class Unchecked(EditFriendlyParams):
    factor: float = option(1.0, "a factor", stage="edit", low=0, high=1)

    def check(self):
        replace(self, factor=1.0)._check()

    def _check(self):
        super().check()


@dataclass(frozen=True)
class Unexplained(EditFriendlyParams):
    factor: float = option(1.0, "", stage="edit", low=0, high=1)


@pytest.mark.parametrize(
    ("make", "params", "complaint"),
    [
        (lambda job, params: [Remembering()], EditFriendlyParams, "two edits of one inversion differ"),
        (lambda job, params: [Random()], EditFriendlyParams, "a global random generator was used"),
        (lambda job, params: [MixesRows()], EditFriendlyParams, "edited in a batch differs"),
        (lambda job, params: [Doubled()], EditFriendlyParams, "differs from the image by"),
        (hooked, EditFriendlyParams, "hooks of the model differ after an edit: those of the U-Net"),
        (hooked_text, EditFriendlyParams, "hooks of the model differ after an edit: those of the text encoder"),
        (changed_autoencoder, EditFriendlyParams, "weights, .* differ after an edit: those of the autoencoder"),
        (restored_torch, EditFriendlyParams, "a cancelled edit leaves a global random generator"),
        (restored_numpy, EditFriendlyParams, "a cancelled edit leaves a global random generator"),
        (lambda job, params: [], Unchecked, "is not refused"),
        (lambda job, params: [], Unexplained, "factor has no help text"),
    ],
)
def test_contract_violation_is_detected(register, make, params, complaint):
    register(make, params)
    with pytest.raises(AssertionError, match=complaint):
        check_method("broken")


def test_option_of_unsupported_type_is_rejected_at_registration(register):
    @dataclass(frozen=True)
    class Listed(EditFriendlyParams):
        words: list = option((), "words", stage="edit")  # noqa: RUF009

    with pytest.raises(BadInput, match="The option words has the type"):
        register(lambda job, params: [], Listed)


def test_unknown_method_is_rejected():
    with pytest.raises(BadInput, match="there is no method 'nosuch'"):
        check_method("nosuch")
