"""The methods that a caller names, with options or with complete parameters."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sfumato.changes import Change, joined
from sfumato.editing.registry import Method
from sfumato.errors import BadInput
from sfumato.options.params import Params

Named: TypeAlias = str | tuple[str, Mapping[str, Any] | Params]
"""Name of a method, or a pair (name, options of the edit) or (name, complete parameters).

Complete parameters are an object of the parameter class of the method. No defaults of the model apply to them."""


def as_named(wanted: Any) -> list[Named]:
    """Check the name of a method, or a list of names and pairs, and return it as a list.

    A `sfumato.changes.Change` is combined with an earlier entry of the same method, if there is one with options.

    Raises:
        BadInput: `wanted` is neither a name nor such a list.
    """
    if isinstance(wanted, str):
        return [wanted]
    forms = "(name, {option: value}) or (name, parameters)"
    if not isinstance(wanted, Sequence):
        raise BadInput(f"methods must be a name, or a list of names, {forms}, not {wanted!r}.")
    for each in wanted:
        pair = isinstance(each, Sequence) and len(each) == 2 and isinstance(each[0], str)
        if not isinstance(each, str) and not (pair and isinstance(each[1], (Mapping, Params))):
            raise BadInput(f"A method must be a name, {forms}, not {each!r}.")
    found: list[Named] = []
    for each in wanted:
        n = next((n for n, other in enumerate(found) if name_of(other) == name_of(each)), None)
        own, more = {} if n is None else options_in(found[n]), options_in(each)
        changed = n is not None and any(isinstance(one, Change) for one in (found[n], each))
        if n is None or not changed or isinstance(own, Params) or isinstance(more, Params):
            found.append(each)
        else:
            found[n] = Change(name_of(each), joined(own, more))
    return found


def name_of(named: Named) -> str:
    """Return the name of the method, without its options."""
    return named if isinstance(named, str) else named[0]


def options_in(named: Named) -> Mapping[str, Any] | Params:
    """Return the options or the complete parameters; {} for a name alone."""
    return {} if isinstance(named, str) else named[1]


def check_class(params: Params, method: Method) -> None:
    """Raise BadInput unless complete parameters are of the parameter class of the method."""
    if type(params) is not method.params:
        raise BadInput(
            f"The method {method.name} takes parameters of the class {method.params.__name__}, not of "
            f"{type(params).__name__}."
        )
