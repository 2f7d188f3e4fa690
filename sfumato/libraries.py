"""Silencing the progress bars and log messages of libraries, which would mix with those of sfumato."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOADING = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager: transformers shows no progress bar and logs errors only; exceptions are raised as usual.

    Only one thread at a time can enter it, because these settings are global to the process, and so are settings that
    the libraries change while they load a model.
    """
    from transformers.utils import logging

    with _LOADING:
        shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if shown:
                logging.enable_progress_bar()
