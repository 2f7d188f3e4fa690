"""The interface between the training loop and the models that it trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]


@dataclass
class Phase:
    """One optimizer update within a training step. Most tasks have one; a GAN has two (generator, discriminator).

    Attributes:
        name: prefix of the log columns and of the checkpoint files.
        module: its forward takes a batch and returns (loss, named scalars); its parameters are trained.
        start: first training step that runs the phase.
        compiled: submodules that `run.compile` compiles. Each is called, and its graph is differentiated only once per
            forward pass.
    """

    name: str
    module: nn.Module
    start: int = 0
    compiled: Sequence[nn.Module] = ()


class Task(Protocol):
    """A training task: the networks with their losses, their batches, samples and export.

    Register an implementation with `sfumato.train.registry.task`.
    """

    @property
    def phases(self) -> Sequence[Phase]:
        """Optimizer updates of a training step, in order; the names must differ."""

    @property
    def image_count(self) -> int:
        """Number of training images."""

    @property
    def bound_to(self) -> Mapping[str, str]:
        """Settings and fingerprints, by name, that must not change when a run resumes (`sfumato.train.binding`)."""

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Draw a batch of `size` items, with the condition of the network.

        All randomness must come from `generator`. The loop adds `step`, the number of finished training steps.
        """

    def sample(self, folder: Path, step: int) -> None:
        """Write an image with samples of the current networks to `folder`; the loop loads the EMA weights first."""

    def export(self, folder: Path) -> None:
        """Write the trained networks to `folder`; the loop loads the EMA weights first."""
