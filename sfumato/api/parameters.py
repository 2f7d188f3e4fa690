"""The parameters of methods: options of the caller with the defaults of the model, checked against the model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sfumato.editing.registry import Method
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.options.defaults import GUIDANCE_SCALES, Chosen, completed
from sfumato.options.option import Stage
from sfumato.options.params import Params, check_names, options_of

_FIXED = {
    "steps": "the number of steps",
    "num_inference_steps": "the number of steps",
    "seed": "the seed",
    "resolution": "the resolution",
    "tiles": "the use of tiles",
}
"""Options of the inversion that an edit cannot change, in addition to those of its method."""


def resolve(
    network: DiffusionModel,
    params: type[Chosen],
    given: Mapping[str, Any],
    *,
    stages: tuple[Stage, ...],
    section: str,
    what: str,
) -> Chosen:
    """Determine the parameters of a method from options and defaults (`completed`), check them and read their files.

    Args:
        network: the model.
        params: class of the method's parameters.
        given: options of the caller.
        stages: stages whose options the call accepts.
        section: section of `sfumato.json` in the model folder with defaults for the method.
        what: name of the method in error messages.

    Raises:
        BadInput: an option is unknown; or as `check_params`; or a file cannot be read.
    """
    check_names(given, params, stages, what)
    resolved = completed(params, section, given, network)
    check_and_read(network, resolved)
    return resolved


def resolve_of(network: DiffusionModel, method: Method, given: Mapping[str, Any], what: str) -> Params:
    """Determine the parameters of a method as `resolve`, from options of the inversion and of the edit."""
    return resolve(network, method.params, given, stages=("invert", "edit"), section=method.section, what=what)


def revise(network: DiffusionModel, params: Params, given: Mapping[str, Any], what: str) -> Params:
    """Return the parameters of an inversion, which are checked, with options of the stage "edit" replaced.

    Raises:
        BadInput: an option is unknown; or as `revised_by`.
    """
    check_names(given, type(params), ("edit",), what)
    return revised_by(network, params, dataclasses.replace(params, **given))


def revised_by(network: DiffusionModel, params: Params, revised: Params) -> Params:
    """Check the parameters of an edit by the method of its inversion, and read their files.

    Args:
        network: the model.
        params: parameters of the inversion, which are checked.
        revised: the same parameters with other options of the stage "edit".

    Returns:
        `revised`; or `params`, which contain what they have read, if neither the options nor the files have changed.

    Raises:
        BadInput: as `check_params`; a file cannot be read; or an option or its file is another one than in the
            inversion, which was computed with it (`Params.inverts_with`).
    """
    if revised is not params:
        check_params(network, revised)  # also if they are equal, as True == 1
    if revised == params:
        params.read_files()  # those of an inversion that was opened from a file have not been read
        if revised.hashes == params.hashes:
            return params
    revised.read_files()
    for name in params.inverts_with:
        if (new := getattr(revised, name)) != (old := getattr(params, name)):
            raise BadInput(f"The image was inverted with {name} = {old!r}: to edit it with {new!r}, invert it again.")
        if revised.hashes.get(new) != params.hashes.get(old):
            raise BadInput(
                f"{printable(old)} was changed after the image was inverted with it: invert the image again."
            )
    return revised


def check_and_read(network: DiffusionModel, params: Params) -> None:
    """Check parameters against the model and read their files. Raises BadInput."""
    check_params(network, params)
    params.read_files()


def check_params(network: DiffusionModel, params: Params) -> None:
    """Check ranges, the number of steps against the schedule, and the method and guidance scales against the model.

    Raises:
        BadInput: a value is out of range, there are more steps than the schedule allows, or the method or a guidance
            scale requires text input, which the model lacks.
    """
    _ = params.checked
    if params.needs_text and not network.takes_text:
        raise BadInput(
            f"{network.name or 'This model'} has no text input, which the method needs: choose another method."
        )
    network.schedule.timesteps(params.steps)  # type: ignore[attr-defined]
    for name in GUIDANCE_SCALES:
        if not network.takes_text and getattr(params, name, 1.0) != 1:
            raise BadInput(f"{name} must be 1 for a model without text input, not {getattr(params, name)}.")


def check_fixed(options: Mapping[str, Any], params: Params) -> None:
    """Check that the options of an edit do not contain options of the inversion.

    Args:
        options: options of the caller.
        params: parameters of the inversion.

    Raises:
        BadInput: they do.
    """
    known = dict.fromkeys(options_of(type(params), "invert"), "it") | _FIXED
    for name in options:
        if name in known:
            raise BadInput(
                f"{name}: {known[name]} was fixed at inversion; leave {name} out, or invert the image again with it."
            )


def check_same(params: Params, values: Mapping[str, Any], name: str) -> None:
    """Check that complete parameters of a method have the values of the run.

    Args:
        params: the parameters.
        values: options of the run.
        name: name of the method.

    Raises:
        BadInput: they have another value.
    """
    for option, value in values.items():
        if (own := getattr(params, option)) != value:
            raise BadInput(
                f"The parameters of {name} have {option} = {own!r}, but {option} is {value!r} for the complete run: "
                "give them the same value."
            )
