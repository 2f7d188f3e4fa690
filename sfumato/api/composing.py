"""Composition of an edit: the parameters of its methods are determined and checked against the inversion."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.api.arguments import check_shifts
from sfumato.api.composition import Composition
from sfumato.api.named import Named, as_named, check_class, name_of, options_in
from sfumato.api.parameters import check_and_read, check_fixed, check_same, resolve_of, revise, revised_by
from sfumato.api.words_of_diffusers import renamed
from sfumato.core.shift import Shift
from sfumato.editing.registry import METHODS, Method, check_once
from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.options.defaults import of_inversion, of_run
from sfumato.options.params import SHARED, Params, check_names, options_of


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
        wanted: name of a method, or names of methods with or without options or parameters; None for `method`.
        shifts: shifts of the caller.
        options: options of the edit by the method, if there is only one; if `wanted` is a list, only those of the run
            (`SHARED`), which take precedence over complete parameters.

    Raises:
        BadInput: a method or option is unknown, a method does not accept the inversion, or a value is out of range; or
            complete parameters are of another class, or differ from the inversion or the other methods in an option of
            the complete run.
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
    named = as_named(wanted)
    if not named:
        run = revise(network, params, _known(shared, type(params)), "edit")
        return Composition((), tuple(shifts), run)
    found: list[tuple[Method, Params]] = []
    for each in named:
        other = METHODS.find(name_of(each))
        other.check_accepts(kind)
        common = of_run(other.params, found[0][1]) if found else {}
        found.append((other, _params(network, kind, method, params, other, options_in(each), shared, common)))
    check_once([each for each, _ in found])
    return Composition(tuple(found), tuple(shifts), found[0][1])


def _params(
    network: DiffusionModel,
    kind: str,
    bound: Method,
    params: Params,
    method: Method,
    own: Mapping[str, Any] | Params,
    shared: Mapping[str, Any],
    common: Mapping[str, Any],
) -> Params:
    """The parameters of a method for an inversion that may have been computed for another method, `bound`.

    `shared` are options of the caller for the complete run, `common` those that the first method determines.
    """
    shared, fixed = _known(shared, method.params), of_inversion(method.params, params, kind)
    if isinstance(own, Params):
        check_class(own, method)
        changed = {name: value for name, value in shared.items() if getattr(own, name) != value}
        complete = dataclasses.replace(own, **changed) if changed else own
        check_same(complete, {**fixed, **common}, method.name)
        if method is bound:
            return revised_by(network, params, complete)
        check_and_read(network, complete)
        return complete
    what = f"edit by {method.name}"
    for name in set(own) & set(SHARED):
        raise BadInput(f"{name} applies to the complete run: give it as an option of the edit, not of {method.name}.")
    check_fixed(own, params)
    check_names(own, method.params, ("edit",), what)
    given = {**shared, **common, **own}
    if method is bound:
        return revise(network, params, given, what)
    return resolve_of(network, method, fixed | given, what)


def _known(options: Mapping[str, Any], params: type[Params]) -> dict[str, Any]:
    """The options that a method has."""
    return {name: value for name, value in options.items() if name in options_of(params)}
