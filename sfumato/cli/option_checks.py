"""Checks of the options of methods without torch, before a model is loaded."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sfumato.errors import BadInput
from sfumato.files import printable

if TYPE_CHECKING:
    from sfumato.options.params import Params


def chosen_params(params: type["Params"], given: Mapping[str, Any]) -> "Params":
    """The parameters with the given options, for checks of these; the others have defaults without a model."""
    from sfumato.options.defaults import defaults_of
    from sfumato.options.params import options_of

    options = options_of(params)
    # skip must be less than steps. If only one of them is given, the default of the other must not cause an error.
    generous = {"steps": options["steps"].metadata["range"].high} if "steps" in options else {}
    generous |= {"skip": 0} if "skip" in options else {}
    return params(**defaults_of(params, given, {}) | generous | dict(given))


def check_options(params: "Params") -> None:
    """Check the ranges of values, that files exist and their headers; the files are read after the model is loaded.

    Args:
        params: complete parameters, or those of `chosen_params`.

    Raises:
        BadInput: a value is out of range, or a file does not exist or is of another kind; the message names the
            parameter or the file.
    """
    _ = params.checked
    for path in params.files:
        if not os.path.exists(path):
            raise BadInput(f"There is no file {printable(path)}: check the path.")
    params.check_headers()
