"""Processes that share work, and end with the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

#: Small enough to share the work evenly, large enough to hide the cost of passing it on.
_CHUNK = 16


@contextmanager
def shared(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Iterator[Result]]:
    """The results in the order of the jobs, from so many processes; none of them is left behind, however it ends.

    The processes do not hear Ctrl-C, which a terminal sends to all, nor SIGTERM: this one does, and ends them at once,
    whatever they are doing. They end by themselves when this one is gone.
    """
    others = set(multiprocessing.active_children())
    # "spawn": a forked child would inherit the locks of the progress bar's thread
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_follow)
    try:
        with _held_back(signal.SIGINT, signal.SIGTERM):
            # not `pool.map`, which cancels what is left, and Python 3.11 cannot fail a task that is cancelled already
            parts = [pool.submit(_each, work, jobs[n : n + _CHUNK]) for n in range(0, len(jobs), _CHUNK)]
        yield (result for part in parts for result in part.result())
        pool.shutdown()
    except BaseException:
        mine = set(multiprocessing.active_children()) - others
        for process in mine:
            process.kill()
        for process in mine:
            process.join()
        pool.shutdown()
        raise


def _each(work: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    return [work(job) for job in jobs]


@contextmanager
def _held_back(*numbers: signal.Signals) -> Iterator[None]:
    """Signals are held back from this thread, and for good from the processes that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow() -> None:
    """In a worker: end as soon as the process that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
