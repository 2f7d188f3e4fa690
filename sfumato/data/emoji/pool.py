"""A pool of worker processes that end when the main process ends."""

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

#: Jobs per task, a compromise between load balance and communication overhead.
_CHUNK = 16


@contextmanager
def shared(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Iterator[Result]]:
    """Context that runs `work` on all jobs in worker processes and yields an iterator of the results, in order.

    The workers ignore SIGINT (which a terminal sends to all processes) and SIGTERM. They are killed if the main process
    leaves the context with an exception, and exit if the main process ends.

    Args:
        work: a function that can be pickled.
        jobs: its arguments.
        workers: number of processes.
    """
    others = set(multiprocessing.active_children())
    # "spawn": a forked child would inherit locks held by the thread of the progress bar
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_exit_with_main)
    try:
        with _signals_blocked(signal.SIGINT, signal.SIGTERM):
            # not `pool.map`: it cancels pending tasks, and Python 3.11 raises when it then fails a cancelled task
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
def _signals_blocked(*numbers: signal.Signals) -> Iterator[None]:
    """Context that blocks signals in this thread; processes started inside inherit the mask and keep it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_with_main() -> None:
    """In a worker: exit as soon as the main process has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
