"""Trains a toy task in processes that are killed with SIGKILL again and again; run as a script by test_kill.py.

This process imports everything once and forks the workers, so that one life takes milliseconds. A life ends after a
random number of steps and a random while longer: within a step, a checkpoint or the clearing up of old ones.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from sfumato.train.checkpoint import valid_checkpoints
from sfumato.train.loop import Run
from tests.train.toy import ToyTask, toy_recipe

STEPS, SECOND = 130, 20


def train(folder: Path, every: int, report: int | None = None) -> None:
    run = Run(ToyTask(second=SECOND), toy_recipe(STEPS, checkpoint_every=every), folder, "cpu")
    for _ in run.steps():
        if report is not None:
            os.write(report, b".")


def one_life(folder: Path, every: int, steps: int, longer: float) -> bool:
    """Train until `steps` steps have been reported and `longer` seconds have passed; True if it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        train(folder, every, write)
        os._exit(0)
    os.close(write)
    seen = 0
    while seen < steps and (got := os.read(read, 1)):
        seen += len(got)
    time.sleep(longer)
    os.kill(child, signal.SIGKILL)
    os.close(read)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main(folder: Path, seed: int, kills: int) -> None:
    torch.set_num_threads(1)
    draw = random.Random(seed)
    died, resumed = 0, []
    while died < kills:
        steps, longer = draw.randint(0, 6), draw.uniform(0, 0.03)
        died += one_life(folder / "killed", draw.randint(1, 3), steps, longer)
        valid = valid_checkpoints(folder / "killed" / "checkpoints")
        resumed.append(valid[-1].name if valid else "")
    before_the_last_life = sorted(p.name for p in (folder / "killed" / "checkpoints").iterdir())
    if os.fork() == 0:
        train(folder / "killed", 3)
        os._exit(0)
    assert os.wait()[1] == 0
    train(folder / "whole", 3)
    print(json.dumps({"kills": died, "resumed": resumed, "left": before_the_last_life}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
