"""Silencing the progress bars, log messages and warnings of libraries."""

import os
import warnings

#: Libraries whose FutureWarnings are meant for developers.
_ANNOUNCING = r"(torch|diffusers|transformers|accelerate|huggingface_hub|tokenizers)(\.|$)"


def quiet_warnings() -> None:
    """Hide only the warnings that users cannot act on.

    These are announcements of future changes in libraries, and Pillow's warnings about files that it can read
    (`sfumato.images` reports the relevant problems).
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=_ANNOUNCING)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def quiet_libraries() -> None:
    """Make diffusers and transformers log errors only; downloads from the Hub still show a progress bar."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
