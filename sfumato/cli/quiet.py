"""The libraries' own bars and remarks, kept off the user's terminal."""

import os
import warnings

#: They tell their own developers, and those who call them directly, what will change.
_ANNOUNCING = r"(torch|diffusers|transformers|accelerate|huggingface_hub|tokenizers)(\.|$)"


def quiet_warnings() -> None:
    """Hide the warnings that no user can do anything about, and no others.

    These are what libraries announce about their own future, and what Pillow remarks on files that it reads all the
    same: `sfumato.images` says what matters of that.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=_ANNOUNCING)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def quiet_libraries() -> None:
    """Only errors are logged by diffusers and transformers; a download from the hub still shows its bar."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
