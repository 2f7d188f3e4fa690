"""Stop a run, on all processes together, before an optimizer step with a loss or gradient that is not finite."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from sfumato.errors import NonFinite
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.finite import blame_for_gradient, blame_for_loss
from sfumato.train.task import Batch, Phase

#: Consecutive fp16 steps that may be skipped because of an overflow. Each halves the gradient scale, initially 2^16.
PATIENCE = 16


class Guard:
    """Check losses and gradients for NaN and infinity.

    Args:
        accelerator: accelerator of the run.
        folder: folder of the run, for error messages.
    """

    def __init__(self, accelerator: Accelerator, folder: Path) -> None:
        self.accelerator, self.folder = accelerator, folder
        self._skipped: dict[str, int] = {}

    def check_loss(self, phase: Phase, loss: Tensor, batch: Batch, step: int) -> None:
        """Check that the loss is finite on all processes.

        Raises:
            NonFinite: the loss is NaN or infinite; the message names the cause.
        """
        if self._anywhere_not_finite(loss):
            why = _elsewhere(loss) or blame_for_loss(batch, phase.module)
            raise self._error(f"the {phase.name} loss", why, step)

    def check_gradient(self, phase: Phase, norm: Tensor, step: int) -> None:
        """Check that the norm of the gradient is finite on all processes.

        With fp16 a single overflow is not an error: the gradient scaler skips the step and halves its scale.

        Raises:
            NonFinite: the norm is NaN or infinite; with fp16, more than `PATIENCE` times in a row.
        """
        if not self._anywhere_not_finite(norm):
            self._skipped[phase.name] = 0
            return
        self._skipped[phase.name] = skipped = self._skipped.get(phase.name, 0) + 1
        if self.accelerator.scaler is None or skipped > PATIENCE:
            why = _elsewhere(norm) or blame_for_gradient(phase.module)
            raise self._error(f"the {phase.name} gradient", why, step)

    def _anywhere_not_finite(self, value: Tensor) -> bool:
        """Whether `value` is NaN or infinite on any process. All processes get the same answer."""
        bad = (~torch.isfinite(value.detach())).float().sum()
        if self.accelerator.num_processes > 1:
            bad = self.accelerator.reduce(bad, "sum")
        return bool(bad.item() > 0)

    def _error(self, what: str, why: str, step: int) -> NonFinite:
        saved = newest_checkpoint(self.folder / "checkpoints") is not None
        return NonFinite(
            f"{what} is not finite at step {step}: {why}. The optimizer did not take this step, and "
            + (f"the newest checkpoint in {self.folder} is finite." if saved else "there is no checkpoint yet.")
        )


def _elsewhere(value: Tensor) -> str:
    return "it occurred on another process" if torch.isfinite(value.detach()).all() else ""
