"""Composition of the methods of an edit: their parameters are checked against the inversion and combined."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from sfumato.api.arguments import check_fixed, check_run, check_shifts, resolve, revise
from sfumato.api.prompts import uses_negative
from sfumato.api.report import described_shift, parameters
from sfumato.api.words_of_diffusers import renamed
from sfumato.changes import Change, joined
from sfumato.core.loop import conflict
from sfumato.core.shift import Shift
from sfumato.editing.job import Job
from sfumato.editing.registry import METHODS, Method, check_once
from sfumato.errors import BadInput
from sfumato.geometry.edit import MoveLatent
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.tiles import NO_TAPS, TiledModel
from sfumato.options.option import Stage
from sfumato.options.params import SHARED, Params, check_names, options_of
from sfumato.shifts.carry import Carry

Named: TypeAlias = str | tuple[str, Mapping[str, Any]]
"""Name of a method, or a pair (name, options of the edit)."""


@dataclass(frozen=True, eq=False)
class Composition:
    """The methods and shifts of one edit.

    Attributes:
        methods: pairs of a method and its parameters, in the order in which their shifts are applied.
        shifts: shifts of the caller, which are applied after those of the methods.
        run: parameters of the run, used if `methods` is empty.
    """

    methods: tuple[tuple[Method, Params], ...]
    shifts: tuple[Shift, ...]
    run: Params

    @property
    def params(self) -> Params:
        """The parameters that contain the `SHARED` options of the run: those of the first method."""
        return self.methods[0][1] if self.methods else self.run

    @property
    def skip(self) -> int:
        """Number of first (noisiest) steps to skip."""
        return int(getattr(self.params, "skip", 0))

    @property
    def keeps_prompt(self) -> bool:
        """Whether an edit without a target prompt uses the source prompt instead."""
        return bool(self.shifts) or any(params.keeps_prompt for _, params in self.methods)

    @property
    def under_source(self) -> bool:
        """Whether the run is conditioned on the source prompt."""
        return any(method.under_source for method, _ in self.methods)

    @property
    def needs_reference(self) -> bool:
        """Whether a method compares generated images with those of the same seeds without any method."""
        return any(params.needs_reference for _, params in self.methods)

    def notes(self, prompts: Sequence[tuple[str, str]]) -> list[str]:
        """Return the notes of the methods on prompts and options that had no effect, and on methods without effect.

        Args:
            prompts: source and target prompt of every image.
        """
        inactive = [(method.name, params.lacks) for method, params in self.methods if params.lacks]
        found = [f"The method {name} had no effect without {' or '.join(options)}." for name, options in inactive]
        if any(params.reads_target for _, params in self.methods):
            prompts = [(source, "") for source, _ in prompts]
        return found + [note for _, params in self.methods for note in params.notes(prompts)]

    def path(self, steps: int) -> tuple[int, ...]:
        """Return the noise levels in the order in which the edit visits them; () if every step is run once.

        Args:
            steps: number of steps of the edit, without skipped steps.

        Raises:
            BadInput: two methods repeat different steps.
        """
        found = {method.name: tuple(path) for method, params in self.methods if (path := params.path(steps))}
        if len(set(found.values())) > 1:
            raise BadInput(f"{' and '.join(found)} repeat different steps of the run: use one of them.")
        return next(iter(found.values()), ())

    def finish(self, edited: Tensor, source: Tensor | None, inside: Tensor | None = None) -> Tensor:
        """Apply the post-processing of all methods to decoded images, in order; see `Params.finish`."""
        for _, params in self.methods:
            edited = params.finish(edited, source, inside)
        return edited

    def uses_negative(self, guidance_scale: float) -> bool:
        """Return whether a negative prompt has an effect at this guidance scale."""
        return uses_negative([params for _, params in self.methods], guidance_scale)

    def check_run(
        self, network: DiffusionModel, sizes: Sequence[tuple[int, int]], sources: Sequence[str], targets: Sequence[str]
    ) -> None:
        """Check that the methods fit the model, the images and the prompts.

        Args:
            network: the model.
            sizes: (height, width) of the latents of every group of images.
            sources: source prompts.
            targets: target prompts.

        Raises:
            BadInput: as `Params.check_run`.
        """
        for method, params in self.methods:
            uses_target = params.reads_target or method.under_source or not self.under_source
            check_run(network, params, sizes, sources, targets if uses_target else sources)

    def of(self, job: Job) -> list[Shift]:
        """Create all shifts for a batch of edits, in order; shifts with `Shift.keeps_source` are last.

        Raises:
            BadInput: a shift replaces a quantity that another shift replaces or reads in the same step; or a shift
                reads or replaces features of the network in an edit with tiles.
        """
        made = [(method.name, shift) for method, params in self.methods for shift in method.shifts(job, params)]
        made += [(type(shift).__name__, shift) for shift in self.shifts]
        made.sort(key=lambda pair: pair[1].keeps_source)
        shifts = [shift for _, shift in made]
        if isinstance(job.network, TiledModel):
            _check_tiles(made)
        if found := conflict(shifts, len(job.timesteps)):
            names = [next(name for name, shift in made if shift is each) for each in found.shifts]
            raise BadInput(f"{found.sentence(*names)}: leave one of them out{_or_for_no_steps(names, found.shifts)}.")
        return shifts

    def described(self, values: Callable[[Params], Mapping[str, Any]] = parameters) -> list[dict[str, Any]]:
        """Describe the methods with their options, and the shifts, as JSON values for reports and recipes.

        Args:
            values: converts the parameters of a method to JSON values.
        """
        described = [(method.name, values(params), options_of(type(params), "edit")) for method, params in self.methods]
        methods = [
            {"method": name} | {option: given[option] for option in options} for name, given, options in described
        ]
        return methods + [described_shift(shift) for shift in self.shifts]


def compose(
    network: DiffusionModel,
    kind: str,
    method: Method,
    params: Params,
    wanted: str | Sequence[Named] | None,
    shifts: Sequence[Shift],
    options: Mapping[str, Any],
) -> Composition:
    """Compose an edit from the methods that the caller names, or from the method that the inversion was made for.

    Args:
        network: the model.
        kind: name of the inversion.
        method: the method that the inversion was made for.
        params: its parameters.
        wanted: name of a method, or names of methods with or without options; None for `method`.
        shifts: shifts of the caller.
        options: options of the edit by the method, if there is only one; if `wanted` is a list, only those of the run
            (`SHARED`).

    Raises:
        BadInput: a method or option is unknown, a method does not accept the inversion, or a value is out of range.
    """
    check_shifts(shifts)
    check_fixed(options, params)
    options = renamed(options, "edit")
    if wanted is None:
        revised = revise(network, params, options, f"edit by {method.name}")
        return Composition(((method, revised),), tuple(shifts), revised)
    shared = {name: value for name, value in options.items() if name in SHARED}
    own = {name: value for name, value in options.items() if name not in SHARED}
    if isinstance(wanted, str):
        wanted, own = [(wanted, own)], {}
    for name in own:
        raise BadInput(f"{name!r} belongs to a method: give it with the method's name, as (name, {{option: value}}).")
    found = [_with_params(network, kind, method, params, each, shared) for each in as_named(wanted)]
    check_once([each for each, _ in found])
    run = revise(network, params, {n: v for n, v in shared.items() if n in options_of(type(params))}, "edit")
    first = found[0][1] if found else run
    common = {name: getattr(first, name) for name in SHARED if hasattr(first, name)}
    return Composition(tuple((each, _shared(own, common)) for each, own in found), tuple(shifts), run)


def _or_for_no_steps(names: Sequence[str], shifts: Sequence[Shift]) -> str:
    """The alternative to leaving a shift out for those that act in a fraction of the steps; "" if there are none."""
    able = [name for name, shift in zip(names, shifts, strict=True) if isinstance(shift, Carry)]
    return f", or set the fraction of the steps of {' or '.join(able)} to 0" if able else ""


def _check_tiles(made: Sequence[tuple[str, Shift]]) -> None:
    """Raise BadInput if a shift reads or replaces features or attention maps, which tiles do not support."""
    for name, shift in made:
        hooks = ("taps", "prediction_taps", "energy")
        tapped = any(getattr(type(shift), hook) is not getattr(Shift, hook) for hook in hooks)
        if tapped or isinstance(shift, MoveLatent):  # its hook `latent` evaluates the bottleneck
            raise BadInput(f"{name}: {NO_TAPS}.")


def as_named(wanted: Any) -> list[Named]:
    """Check the name of a method, or a list of names and (name, options) pairs, and return it as a list.

    A `sfumato.changes.Change` is combined with an earlier entry of the same method, if there is one.

    Raises:
        BadInput: `wanted` is neither a name nor such a list.
    """
    if isinstance(wanted, str):
        return [wanted]
    if not isinstance(wanted, Sequence):
        raise BadInput(f"methods must be a name, or a list of names or of (name, {{option: value}}), not {wanted!r}.")
    for each in wanted:
        pair = isinstance(each, Sequence) and len(each) == 2 and isinstance(each[0], str)
        if not isinstance(each, str) and not (pair and isinstance(each[1], Mapping)):
            raise BadInput(f"A method must be a name, or (name, {{option: value}}), not {each!r}.")
    found: list[Named] = []
    for each in wanted:
        n = next((n for n, other in enumerate(found) if name_of(other) == name_of(each)), None)
        if n is None or not any(isinstance(one, Change) for one in (found[n], each)):
            found.append(each)
        else:
            found[n] = Change(name_of(each), joined(_options_of(found[n]), _options_of(each)))
    return found


def name_of(named: Named) -> str:
    """Return the name of the method, without its options."""
    return named if isinstance(named, str) else named[0]


def _options_of(named: Named) -> Mapping[str, Any]:
    return {} if isinstance(named, str) else named[1]


def _with_params(
    network: DiffusionModel, kind: str, bound: Method, params: Params, named: Named, shared: Mapping[str, Any]
) -> tuple[Method, Params]:
    """A method and its parameters, for an inversion that may have been computed for another method."""
    name, own = (named, {}) if isinstance(named, str) else named
    method = METHODS.find(name)
    method.check_accepts(kind)
    what = f"edit by {method.name}"
    for shared_name in set(own) & set(SHARED):
        raise BadInput(f"{shared_name} applies to the complete run: give it as an option of the edit, not of {name}.")
    check_fixed(own, params)
    check_names(own, method.params, ("edit",), what)
    given = {n: v for n, v in shared.items() if n in options_of(method.params)} | dict(own)
    if method is bound:
        return method, revise(network, params, given, what)
    known = options_of(method.params, "invert")
    run = {n: getattr(params, n) for n in options_of(type(params), "invert") if n in known}
    run |= {"inversion": kind} if "inversion" in known else {}
    stages: tuple[Stage, ...] = ("invert", "edit")
    return method, resolve(network, method.params, run | given, stages=stages, section=method.section, what=what)


def _shared(params: Params, common: Mapping[str, Any]) -> Params:
    """The parameters with the `SHARED` options set to their common values."""
    other = {name: value for name, value in common.items() if getattr(params, name, value) != value}
    if not other:
        return params
    revised = dataclasses.replace(params, **other)
    revised.check()
    revised.read_files()
    return revised
