"""The contract between the training loop and what it trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]


@dataclass
class Phase:
    """One optimizer's turn within a step. Most tasks have one; a patch GAN has two (generator, discriminator).

    Attributes:
        name: names the log columns and the checkpoint files.
        module: its forward takes a batch and returns (loss, named scalars); its own parameters are trained.
        start: first step at which the phase takes its turn.
        compiled: the networks in it that `run.compile` compiles; they are called, and gone through backwards once.
    """

    name: str
    module: nn.Module
    start: int = 0
    compiled: Sequence[nn.Module] = ()


class Task(Protocol):
    """What is trained: the networks with their losses, what a batch is, what is exported.

    A class with these members is a task once it is registered: see `sfumato.train.registry`.
    """

    @property
    def phases(self) -> Sequence[Phase]:
        """What is trained, in the order of the turns; the names must differ."""

    @property
    def pictures(self) -> int:
        """How many pictures it is trained on."""

    @property
    def bound_to(self) -> Mapping[str, str]:
        """What the weights mean nothing without, by name, as fingerprints: a run is refused where one has changed."""

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """A batch of `size` items, and what the network is conditioned on, drawn with `generator` alone.

        The loop adds `step`, the number of finished steps.
        """

    def sample(self, folder: Path, step: int) -> None:
        """Write a picture of the present state to `folder`."""

    def export(self, folder: Path) -> None:
        """Write the trained networks to `folder`."""
