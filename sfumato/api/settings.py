"""Checks of the defaults in the `sfumato.json` of a model folder against the options of the methods."""

from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from sfumato.editing.generate import GenerateParams
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.options.defaults import AFTER
from sfumato.options.option import check_value
from sfumato.options.params import Params, choices_of, options_of

SUMMARY = "summary"


def check_settings(settings: Mapping[str, Any], name: str) -> None:
    """Check that all sections and options exist and that all values are in range.

    Args:
        settings: sections of defaults by name, optionally with a summary.
        name: name of the model in error messages.

    Raises:
        BadInput: a section or option is unknown or a value is not allowed; the message names the file, the section and
            the option.
    """
    readers = _readers()
    for section, options in settings.items():
        if section == SUMMARY:
            continue
        if section not in readers:
            raise BadInput(f"sfumato.json of {name}: no method reads {section!r}; there are {', '.join(readers)}.")
        _check_section(readers[section], options, _place(name, section))


def check_defaults(params: type[Params], section: str, settings: Mapping[str, Any], name: str) -> None:
    """Check only the defaults that one method reads, without importing the other methods.

    Args:
        params: parameter class of the method.
        section: its section.
        settings: sections of defaults by name.
        name: name of the model in error messages.

    Raises:
        BadInput: as `check_settings`.
    """
    options, known, place = settings.get(section, {}), options_of(params), _place(name, section)
    for inversion, own in _after(options, place).items():
        if inversion in choices_of(params, "inversion"):
            _check_options([params], {n: v for n, v in own.items() if n in known}, f"{place}, {inversion}")
    _check_options([params], {n: v for n, v in options.items() if n in known}, place)


def _place(name: str, section: str) -> str:
    return f"sfumato.json of {name}, {section}"


def _check_section(readers: list[type[Params]], options: Mapping[str, Any], place: str) -> None:
    inversions = [name for each in readers for name in choices_of(each, "inversion")]
    for inversion, own in _after(options, place).items():
        if inversion not in inversions:
            known = ", ".join(inversions) or "none here"
            raise BadInput(f"{place}: {AFTER!r} names no inversion {inversion!r}; there are {known}.")
        _check_options(readers, own, f"{place}, {inversion}")
    _check_options(readers, {name: value for name, value in options.items() if name != AFTER}, place)


def _after(options: Mapping[str, Any], place: str) -> Mapping[str, Mapping[str, Any]]:
    """The defaults of a section for other inversions, by inversion. Raises BadInput if they have another form."""
    found = options.get(AFTER, {})
    if not isinstance(found, Mapping) or not all(isinstance(each, Mapping) for each in found.values()):
        raise BadInput(f"{place}: {AFTER!r} must be a JSON object of inversions, each with its options.")
    return found


def _check_options(readers: list[type[Params]], options: Mapping[str, Any], place: str) -> None:
    for option, value in options.items():
        _check_option(readers, option, value, place)


def _readers() -> dict[str, list[type[Params]]]:
    """Parameter classes by the section that contains their defaults."""
    found: dict[str, list[type[Params]]] = {"generate": [GenerateParams]}
    for method in METHODS.values():
        if method.section:
            found.setdefault(method.section, []).append(method.params)
    return found


def _check_option(readers: list[type[Params]], option: str, value: Any, place: str) -> None:
    fields: list[Field[Any]] = [options_of(params)[option] for params in readers if option in options_of(params)]
    if not fields:
        known = dict.fromkeys(name for params in readers for name in options_of(params))
        raise BadInput(f"{place}: there is no option {option!r}; there are {', '.join(known)}.")
    for each in fields:
        if each.metadata["file"]:
            raise BadInput(
                f"{place}: {option} is the path of a file, which a model folder may not set: remove it there."
            )
        try:
            check_value(each, value)
        except BadInput as error:
            raise BadInput(f"{place}: {error}") from None
