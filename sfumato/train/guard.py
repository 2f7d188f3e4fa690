"""A run stops before the optimizer takes a step that is not finite, on all processes together."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from sfumato.errors import NonFinite
from sfumato.train.finite import blame_for_gradient, blame_for_loss
from sfumato.train.task import Batch, Phase

#: fp16 steps in a row that may be skipped for an overflow: each halves the gradient scale, which starts at 2^16.
PATIENCE = 16


class Guard:
    """Looks at losses and gradients.

    Args:
        accelerator: of the run.
        folder: the run's, where its checkpoints are.
    """

    def __init__(self, accelerator: Accelerator, folder: Path) -> None:
        self.accelerator, self.folder = accelerator, folder
        self._skipped: dict[str, int] = {}

    def check_loss(self, phase: Phase, loss: Tensor, batch: Batch, step: int) -> None:
        """Refuse a loss that is not finite.

        Raises:
            NonFinite: it is NaN or infinite on one of the processes; says where that comes from.
        """
        if self._anywhere_not_finite(loss):
            why = _elsewhere(loss) or blame_for_loss(batch, phase.module)
            raise self._refusal(f"the {phase.name} loss", why, step)

    def check_gradient(self, phase: Phase, norm: Tensor, step: int) -> None:
        """Refuse a gradient whose norm is not finite.

        With fp16 an overflow is no fault at first: the scaler skips the step and halves its scale.

        Raises:
            NonFinite: it is NaN or infinite on one of the processes, with fp16 more than `PATIENCE` times in a row.
        """
        if not self._anywhere_not_finite(norm):
            self._skipped[phase.name] = 0
            return
        self._skipped[phase.name] = skipped = self._skipped.get(phase.name, 0) + 1
        if self.accelerator.scaler is None or skipped > PATIENCE:
            why = _elsewhere(norm) or blame_for_gradient(phase.module)
            raise self._refusal(f"the {phase.name} gradient", why, step)

    def _anywhere_not_finite(self, value: Tensor) -> bool:
        """Whether `value` is NaN or infinite on any of the processes, so that all of them stop."""
        bad = (~torch.isfinite(value.detach())).float().sum()
        if self.accelerator.num_processes > 1:
            bad = self.accelerator.reduce(bad, "sum")
        return bool(bad.item() > 0)

    def _refusal(self, what: str, why: str, step: int) -> NonFinite:
        return NonFinite(
            f"{what} is not finite at step {step}: {why}. The optimizer did not take this step, "
            f"and the newest checkpoint in {self.folder} is finite."
        )


def _elsewhere(value: Tensor) -> str:
    return "another process met it" if torch.isfinite(value.detach()).all() else ""
