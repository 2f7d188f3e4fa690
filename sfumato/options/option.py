"""One option of a method: a field of a `Params` dataclass, with its help text, its range and the check of a value."""

from collections.abc import Callable, Mapping
from dataclasses import Field, field
from typing import Any, Literal

from sfumato.errors import BadInput
from sfumato.ranges import Range, check_number

Stage = Literal["invert", "edit", "generate"]
KINDS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
"""Types of options by name, as `from __future__ import annotations` turns annotations into strings."""


def option(
    default: Any,
    help: str,
    *,
    stage: Stage,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    after: Mapping[str, Any] | None = None,
    file: bool = False,
    bundled: Callable[[str], Any] = lambda name: None,
) -> Any:
    """Define a field of a `Params` dataclass.

    Args:
        default: value if neither the caller nor the model folder gives one.
        help: description for the command line and the documentation.
        stage: the call that accepts the option: "invert", "edit" or "generate".
        low: smallest allowed value.
        high: largest allowed value.
        above: exclusive lower limit.
        choices: allowed values of a string option; () for any string.
        after: defaults that depend on the inversion, by the value of the option `inversion`, for methods with that
            option.
        file: whether the value is a file, folder or hub id that is opened; the defaults of a model folder cannot
            contain such an option.
        bundled: returns a true value for the name of a file of the package, which is opened instead of a local file.
    """
    within = Range(low=low, high=high, above=above)
    metadata = {"help": help, "stage": stage, "range": within, "choices": choices, "after": dict(after or {})}
    metadata |= {"file": file, "bundled": bundled}
    return field(default=default, metadata=metadata)


def skip_option(default: int, after: Mapping[str, float] | None = None) -> Any:
    """Define the field `skip` of a `Params` dataclass, an option of the edit; for the arguments see `option`."""
    text = "number of first (noisiest) steps to skip; higher values preserve more of the image"
    return option(default, text, stage="edit", low=0, high=999, after=after)


def kind_of(each: Field[Any]) -> type:
    """Return the type of an option: bool, int, float or str.

    Raises:
        BadInput: the field has another type.
    """
    kind: Any = KINDS.get(each.type) if isinstance(each.type, str) else each.type
    if kind not in KINDS.values():
        raise BadInput(f"The option {each.name} has the type {each.type!r}: options are {', '.join(KINDS)}.")
    found: type = kind
    return found


def allowed(each: Field[Any]) -> str:
    """Describe the allowed values of a field, e.g. "between 1 and 1000"."""
    if kind_of(each) is str:
        return f"one of {', '.join(each.metadata['choices'])}" if each.metadata["choices"] else "any text"
    return str(each.metadata["range"])


def check_value(each: Field[Any], value: Any) -> None:
    """Check the type and range of a value.

    Raises:
        BadInput: the value is not allowed; the message names the field and its range.
    """
    kind = kind_of(each)
    if kind is bool:
        if not isinstance(value, bool):
            raise BadInput(f"{each.name} must be True or False, not {value!r}.")
        return
    if kind is str:
        if not isinstance(value, str) or value not in (each.metadata["choices"] or (value,)):
            raise BadInput(f"{each.name} must be {allowed(each)}, not {value!r}.")
        return
    check_number(each.name, value, kind, each.metadata["range"])
