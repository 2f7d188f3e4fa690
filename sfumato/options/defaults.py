"""The values of the options that a caller leaves out: defaults of the model, of the inversion, and of the method."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from sfumato.options.params import SHARED, Params, options_of

Chosen = TypeVar("Chosen", bound=Params)
GUIDANCE_SCALES = ("guidance_scale", "source_guidance_scale")
"""Options that must be 1 for a model without text input."""
AFTER = "after"
"""Key in a method's section of `sfumato.json`: defaults for inversions other than the preferred one, by name."""


class Tuned(Protocol):
    """Protocol of what the defaults depend on: a `DiffusionModel`, or a model that is not loaded yet."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Content of the model folder's `sfumato.json`, by section; {} if there is none."""

    @property
    def takes_text(self) -> bool:
        """Whether the model has a text encoder."""


def completed(params: type[Chosen], section: str, given: Mapping[str, Any], model: Tuned) -> Chosen:
    """Return the parameters with the options of the caller and the defaults of all others; they are not checked.

    Options of the caller take precedence over defaults of the model folder, and these over defaults of the method.

    Args:
        params: parameter class of a method.
        section: section of `sfumato.json` in the model folder with defaults for the method.
        given: options of the caller.
        model: the model.
    """
    defaults = defaults_of(params, given, model.settings.get(section, {}))
    if not model.takes_text:
        defaults |= {name: 1.0 for name in GUIDANCE_SCALES if name in defaults}
    return params(**_scaled_skip(defaults | dict(given), defaults, given))


def defaults_of(params: type[Params], given: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of all options: those of the model folder, or of the method for the chosen inversion.

    Args:
        params: parameter class of a method.
        given: options of the caller.
        tuned: defaults of the model folder, which apply to the inversion that they were tuned for. Its entry `AFTER`
            contains defaults for other inversions by name.
    """
    options = options_of(params)
    tuned_with = tuned.get("inversion", options["inversion"].default if "inversion" in options else None)
    chosen = given.get("inversion", tuned_with)
    after = {name: each.metadata["after"].get(str(chosen), each.default) for name, each in options.items()}
    own = tuned if chosen == tuned_with else tuned.get(AFTER, {}).get(str(chosen), {})
    return after | {name: value for name, value in own.items() if name in options}


def of_inversion(params: type[Params], inverted: Params, kind: str) -> dict[str, Any]:
    """Return the options of a method that an inversion determines, which may have been computed for another method.

    Args:
        params: parameter class of the method.
        inverted: parameters of the inversion.
        kind: name of the inversion.
    """
    known = options_of(params, "invert")
    found = {name: getattr(inverted, name) for name in options_of(type(inverted), "invert") if name in known}
    return found | ({"inversion": kind} if "inversion" in known else {})


def of_run(params: type[Params], first: Params) -> dict[str, Any]:
    """Return the `SHARED` options of a method that the first method of an edit determines.

    Args:
        params: parameter class of the method.
        first: parameters of the first method.
    """
    known = options_of(params)
    return {name: getattr(first, name) for name in SHARED if hasattr(first, name) and name in known}


def _scaled_skip(values: dict[str, Any], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Scale the default of `skip` with the number of steps, so that skip / steps is that of the defaults."""
    steps = values.get("steps")
    if "skip" in values and "skip" not in given and isinstance(steps, int) and steps >= 1:
        values["skip"] = min(round(defaults["skip"] * steps / defaults["steps"]), steps - 1)
    return values
