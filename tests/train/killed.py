"""Trains a toy task in processes that are killed with SIGKILL again and again, for test_kill.py.

The workers are forked from the test process, so that starting one takes milliseconds. Each is killed after a random
number of steps and a random delay: within a step, while writing a checkpoint or while removing old ones.
"""

import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sfumato.train.checkpoint import valid_checkpoints
from sfumato.train.loop import Run
from tests.train.toy import ToyTask, toy_recipe

SECOND, ENDLESS = 20, 1_000_000


def train(folder: Path, every: int, steps: int, report: int | None = None) -> None:
    run = Run(ToyTask(second=SECOND), toy_recipe(steps, checkpoint_every=every), folder, "cpu")
    for _ in run.steps():
        if report is not None:
            os.write(report, b".")


def child(work: Callable[[], None]) -> int:
    """The process id of a fork that does `work` and ends, with 1 after an error."""
    if (process := os.fork()) == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def one_life(folder: Path, every: int, steps: int, longer: float) -> None:
    """Train until `steps` steps have been reported and `longer` seconds have passed, and kill the process."""
    read, write = os.pipe()
    process = child(lambda: train(folder, every, ENDLESS, write))
    os.close(write)
    seen = 0
    while seen < steps and (got := os.read(read, 1)):
        seen += len(got)
    time.sleep(longer)
    os.kill(process, signal.SIGKILL)
    os.close(read)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1]), "it ended by itself"


def many_lives(folder: Path, seed: int, kills: int) -> dict[str, Any]:
    """Kill a run in `folder`/killed `kills` times, let it reach a step, and train to that step in `folder`/whole.

    Returns:
        The newest checkpoint after every kill ("resumed") and the last step ("target").
    """
    draw = random.Random(seed)
    resumed = []
    for _ in range(kills):
        steps, longer = draw.randint(0, 6), draw.uniform(0, 0.03)
        one_life(folder / "killed", draw.randint(1, 3), steps, longer)
        valid = valid_checkpoints(folder / "killed" / "checkpoints")
        resumed.append(valid[-1].name if valid else "")
    target = int(resumed[-1].removeprefix("step-")) + 10
    assert os.waitpid(child(lambda: train(folder / "killed", 3, target)), 0)[1] == 0
    train(folder / "whole", 3, target)
    return {"resumed": resumed, "target": target}
