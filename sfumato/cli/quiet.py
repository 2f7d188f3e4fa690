"""The libraries' own bars and remarks, kept off the user's terminal."""

import os
import warnings


def quiet_libraries() -> None:
    """Only errors are said by diffusers and transformers; a download from the hub still shows its bar."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
