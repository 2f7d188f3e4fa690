"""Silencing the progress bars and log messages of libraries, which would mix with those of sfumato."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOADING = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager: diffusers and transformers show no progress bar and log errors only; exceptions are raised.

    Only one thread at a time can enter it, because these settings are global to the process, and so are settings that
    the libraries change while they load a model.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    with _LOADING:
        before = [(library, library.is_progress_bar_enabled(), library.get_verbosity()) for library in libraries]
        for library in libraries:
            library.disable_progress_bar()
            library.set_verbosity_error()
        try:
            yield
        finally:
            for library, shown, verbosity in before:
                library.set_verbosity(verbosity)
                if shown:
                    library.enable_progress_bar()
