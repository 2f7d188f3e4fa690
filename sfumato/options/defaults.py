"""The defaults of the options of a method: those of the method, of its inversion and of the model."""

from collections.abc import Mapping
from typing import Any

from sfumato.options.params import Params, options_of

GUIDANCE_SCALES = ("guidance_scale", "source_guidance_scale")
"""Options that must be 1 for a model without text input."""
AFTER = "after"
"""Key in a method's section of `sfumato.json`: defaults for inversions other than the preferred one, by name."""


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


def scaled_skip(values: dict[str, Any], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Scale the default of `skip` with the number of steps, so that skip / steps is that of the defaults.

    Args:
        values: all options; changed in place.
        defaults: the defaults of all options.
        given: options of the caller; a given `skip` is not scaled.

    Returns:
        `values`.
    """
    steps = values.get("steps")
    if "skip" in values and "skip" not in given and isinstance(steps, int) and steps >= 1:
        values["skip"] = min(round(defaults["skip"] * steps / defaults["steps"]), steps - 1)
    return values
