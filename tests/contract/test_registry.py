"""Registration of methods from files and from other packages; a broken package does not affect the others."""

import dataclasses
from typing import get_type_hints

import pytest
import torch

import sfumato.methods
from sfumato.core.guidance import classifier_free
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.editing import registry
from sfumato.editing.job import Job
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.inversion import Inversion
from sfumato.inversion.registry import INVERSIONS, inversion
from sfumato.methods.edit_friendly import EditFriendlyParams, shifts
from sfumato.models.attention import Layers
from sfumato.models.encoder_half import EncoderHalf
from sfumato.models.taps import FromSource
from sfumato.options.option import kind_of
from sfumato.options.params import options_of
from tests.contract.composed import acting
from tests.third_party import method as code_of


def test_method_module_in_the_folder_is_registered(install_method, monkeypatch, tmp_path):
    """The fixture `install_method` makes the registry load its modules again."""
    (tmp_path / "dropped_in.py").write_text(code_of("dropped-in", handles=("latent",)))
    (tmp_path / "helper_of_methods.py").write_text("VALUE = 1")
    monkeypatch.setattr(sfumato.methods, "__path__", [*sfumato.methods.__path__, str(tmp_path)])
    assert METHODS.find("dropped-in").handles == ("latent",)
    assert list(METHODS) == sorted(METHODS)


def test_method_of_another_package_is_loaded_once(install_method):
    install_method("thirdparty", "added", handles=("attention", "noise"))
    assert METHODS.find("added").handles == ("attention", "noise")
    assert METHODS["added"] is METHODS["added"]
    assert METHODS.unloaded == []


BROKEN = {
    "ModuleNotFoundError: No module named 'nosuch'": {"before": "import nosuch"},
    "SyntaxError": {"before": "def ("},
    "SystemExit: 3": {"before": "raise SystemExit(3)"},
    "ZeroDivisionError: division by zero": {"after": "1 / 0"},
    "BadInput: the method 'broken' is registered twice": {"before": code_of("broken")},
    "BadInput: The method 'broken' changes 'colour', which is none of": {"handles": ("colour",)},
}


@pytest.mark.parametrize("reason", BROKEN)
def test_failing_package_is_reported_and_others_are_loaded(install_method, reason):
    install_method("failing", "broken", **BROKEN[reason])
    install_method("thirdparty", "added")
    known = METHODS
    assert {"added", "edit-friendly", "ddim"} <= set(known)
    assert "broken" not in known
    (failure,) = METHODS.unloaded
    assert (failure.name, failure.package) == ("broken", "failing")
    assert reason in failure.reason
    with pytest.raises(BadInput, match="'broken' of the package failing cannot be loaded") as caught:
        METHODS.find("broken")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="there is no method 'nosuch'; choose from"):
        METHODS.find("nosuch")


def test_duplicate_names_are_refused():
    with pytest.raises(BadInput, match="the method 'ddim' is registered twice"):
        registry.method("ddim", summary="again", params=EditFriendlyParams, inversion="ddim")(shifts)
    with pytest.raises(BadInput, match="the inversion 'ddim' is registered twice"):
        inversion("ddim", summary="again")(INVERSIONS.find("ddim").invert)


def test_accepted_inversions_are_registered(method):
    assert method.inversion in method.accepts
    assert set(method.accepts) <= set(INVERSIONS)
    for name in INVERSIONS:
        if name in method.accepts:
            method.check_accepts(name)
        else:
            with pytest.raises(BadInput, match=f"{method.name} edits inversions by .*, not by {name}"):
                method.check_accepts(name)
    with pytest.raises(BadInput, match=r"there is no inversion 'null-text'; choose from ddim, edit-friendly"):
        INVERSIONS.find("null-text")


HOOKS = {
    "condition": "condition",
    "before_gradients": "latent",
    "latent": "latent",
    "noise": "noise",
    "prediction_taps": "prediction",
    "prediction": "prediction",
    "noise_map": "noise map",
}
"""The handle that each hook changes; for taps, it depends on the tap."""
STEPS, SOURCE, TARGET = 6, "red cat", "blue cat"


def moved_by_tap(tap):
    """The handles that a tap changes; none if it only reads, i.e. if its __call__ is annotated to return None."""
    tap = tap.target if isinstance(tap, FromSource) else tap
    if isinstance(tap, EncoderHalf):
        return set()
    if get_type_hints(type(tap).__call__)["return"] is type(None):
        return set()
    if isinstance(getattr(tap, "layers", None), Layers):
        return {"attention"}
    names = [tap.module] if isinstance(tap.module, str) else tap.module
    return {"attention" if name.endswith((".to_q", ".to_k")) else "features" for name in names}


def moved_by(shift, state):
    """The handles that a shift changes: those whose hooks it overrides."""
    hooks = {hook for hook in (*HOOKS, "taps") if getattr(type(shift), hook) is not getattr(Shift, hook)}
    tap = shift.taps(state)
    return {HOOKS[hook] for hook in hooks & set(HOOKS)} | (set() if tap is None else moved_by_tap(tap))


def candidates(method):
    """Parameters of an edit: the defaults, and the defaults with one option at another value."""
    plain = method.params(steps=STEPS, skip=0)
    yield plain
    for name, each in options_of(method.params, "edit").items():
        low, high = each.metadata["range"].low or 0, each.metadata["range"].high
        values = {bool: (True, False), str: (*each.metadata["choices"], "cat", "cat=2", "cat: 0.2, 0.1")}.get(
            kind_of(each)
        )
        for value in values or [kind_of(each)(share * (high - low) + low) for share in (0, 0.5, 1)]:
            yield dataclasses.replace(plain, **{name: value})


def allowed(params, network, job):
    try:
        params.check()
        params.check_files()
        params.check_run(network, job.size, list(zip(job.source.prompts, job.target.prompts, strict=True)))
    except BadInput:
        return False
    return True


def test_declared_handles_match_the_shifts(method, sd, tmp_path):
    """Handles that the shifts override with any of the options; the condition, if the run uses the target prompt.

    A method without shifts has the noise maps of its inversion as a handle.
    """
    network, generator = sd.network, torch.Generator().manual_seed(0)
    x, z = (torch.randn(n, 1, 4, 8, 8, generator=generator) for n in (STEPS + 1, STEPS))
    deterministic = INVERSIONS.find(method.inversion).deterministic or method.params().eta == 0
    timesteps = tuple(network.schedule.timesteps(STEPS))
    made = Inversion(method.inversion, x, None if deterministic else z, timesteps, 0.0, (1.0,), seeds=(0,))
    source, target = network.condition([SOURCE]), network.condition([TARGET])
    own = source if method.under_source else target
    job = Job(classifier_free(network, network.condition([""]), (3.0,)), made, source, target, own)
    state = StepState(
        i=0, steps=STEPS, t=timesteps[0], t_prev=timesteps[1], abar=0.1, abar_prev=0.2, sigma=0.0,
        network=job.guidance, x_t=x[0], condition=own,
    )  # fmt: skip
    calls = network.count.calls
    options = acting(method.name, network, tmp_path, STEPS)
    every = [*candidates(method), method.params(steps=STEPS, skip=0, **options)]
    tried = [params for params in every if allowed(params, network, job)]
    found = [shift for params in tried for shift in method.shifts(job, params)]
    moved = set().union(*(moved_by(shift, state) for shift in found))
    moved |= set() if method.under_source or method.params().keeps_prompt else {"condition"}
    moved |= {"noise map"} if not found and made.z is not None else set()
    assert set(method.handles) == moved
    assert network.count.calls == calls, "shifts are made without an evaluation of the network"
