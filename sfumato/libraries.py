"""The libraries' own bars and remarks, which would cross ours."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOADING = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Within, transformers shows no progress bar and says errors alone; failures raise all the same.

    Threads wait for one another: what the libraries change while they load holds for the whole process, as this does.
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
