"""The training loop, based on accelerate: the same code for one process, several GPUs and several machines.

The loop is a generator that yields after every step, so progress bars, plots and early stopping belong in the caller's
`for` loop. It writes a valid checkpoint before it ends, also on Ctrl-C, SIGTERM or an exception of the caller.

Several processes (started by `torchrun`, not by `accelerate launch --cpu`, which silently starts only one) draw
different batches, and the gradient is averaged over all of them. On the same data, N processes with batch size b are
equivalent to one process with batch size N b: every loss is a mean over the batch, or gathers the values that it
compares from all processes (the captions of the dual encoder, the gradients of the GAN's adaptive weight). The
exception is PARASOL, which decodes `loss.decoded` images per process and micro-batch for two of its losses.

Gradient accumulation is equivalent to a larger batch too, with two exceptions: the contrastive loss compares only the
captions of one micro-batch, and each micro-batch has its own adaptive weight.
"""

import json
import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState

from sfumato.errors import BadInput
from sfumato.files import write_text
from sfumato.train.binding import refuse_another_kind, refuse_changes, warn_of_gaps
from sfumato.train.checkpoint import newest_state, read_newest, write_checkpoint
from sfumato.train.fastest import processor, with_fastest_precision
from sfumato.train.guard import Guard
from sfumato.train.interrupt import Interrupt, Stopped
from sfumato.train.lock import lock
from sfumato.train.precision import arithmetic
from sfumato.train.processes import refuse_different_steps
from sfumato.train.recipe import Recipe
from sfumato.train.record import SUMMARY, Record, name_of
from sfumato.train.seeds import step_generator
from sfumato.train.state import contiguous
from sfumato.train.task import Batch, Phase, Task
from sfumato.train.trained import Trained


@dataclass(frozen=True)
class StepReport:
    """Measurements of one finished training step.

    Attributes:
        step: number of finished steps of the run.
        seconds: duration of this step.
        samples: number of training samples so far, over all processes, with repetition.
        elapsed: seconds of training so far, including checkpoints and samples.
        scalars: losses and other values of this process, such as "unet/loss".
    """

    step: int
    seconds: float
    samples: int
    elapsed: float
    scalars: dict[str, float] = field(default_factory=dict)


class Run:
    """One training run. Its folder contains `checkpoints/`, `samples/` and the files of `record`.

    Args:
        task: the networks, losses and batches.
        recipe: settings of the run.
        folder: folder of the run; an existing run resumes from its newest readable checkpoint.
        device: "cpu", "cuda" or None (accelerate's choice).

    Raises:
        BadInput: another program trains in the folder, its checkpoints are of another kind of run or another network,
            or the precision is not available on the device.
    """

    def __init__(self, task: Task, recipe: Recipe, folder: Path, device: str | None = None) -> None:
        place, self._auto = PartialState(cpu=device == "cpu").device, recipe.run.precision == "auto"
        recipe = with_fastest_precision(recipe, task, place, newest_state(folder / "checkpoints"))
        self.task, self.recipe, self.folder = task, recipe, folder
        precision = {"fp32": "no"}.get(recipe.run.precision, recipe.run.precision)
        try:
            self.accelerator = Accelerator(mixed_precision=precision, cpu=device == "cpu")
        except ValueError as error:  # a GPU without bf16, or a process that already trained in another precision
            raise BadInput(f"run.precision = '{recipe.run.precision}' cannot be used here: {error}") from error
        if precision == "fp16" and self.accelerator.device.type == "cpu":
            raise BadInput("run.precision = 'fp16' needs a GPU; on the CPU use 'bf16' or 'fp32'.")
        self._lock = lock(folder)
        self.step, self.samples = 0, 0
        self.trained = Trained(task.phases, recipe, self.accelerator)
        self._saved: int | None = None
        self._last: StepReport | None = None
        self._step_finished = True
        self._guard = Guard(self.accelerator, folder)
        self._resume()
        refuse_different_steps(self.accelerator, self.step, folder)
        self.record = Record(folder, recipe)
        self.seconds = self.record.seconds(self.step)

    # ------------------------------------------------------------------ stepping

    def steps(self, minutes: float | None = None) -> Generator[StepReport]:
        """Train until the last step of the recipe, or for `minutes` if that is shorter.

        Args:
            minutes: time limit of this call; None for no limit.

        Yields:
            A report after every training step.

        Raises:
            NonFinite: a loss, gradient or weight is NaN or infinite. Losses and gradients are checked before the
                optimizer step; no checkpoint with such weights is written.
            Stopped: a KeyboardInterrupt, after Ctrl-C or SIGTERM, when the step is finished and its checkpoint written.
            BadInput: an exception interrupted the previous step before it was finished.
        """
        if not self._step_finished:
            raise BadInput("this run was interrupted within a step; open it again to resume from its checkpoint.")
        if self.step < self.recipe.run.steps and self.accelerator.is_main_process:
            device, processes = self.accelerator.device, self.accelerator.num_processes
            self.record.begin(self.step, self.samples, device, processes, self.task.image_count)
        start = time.monotonic()
        with Interrupt() as interrupt:
            try:
                while self.step < self.recipe.run.steps and not self._stop(start, minutes, interrupt):
                    with arithmetic(self.recipe.run.precision):
                        report = self._reported_step()
                    yield report
            except BaseException:
                # No barrier here: the exception may not have occurred in the other processes.
                if self._step_finished and self._saved != self.step:
                    self._write()
                raise
            if self._saved != self.step:
                self.save()
            if self._stop(start, None, interrupt):  # also a signal during the last step or its checkpoint
                raise Stopped(interrupt.number)

    def _stop(self, start: float, minutes: float | None, interrupt: Interrupt) -> bool:
        """Whether to stop, equal on all processes: the time limit is reached on process 0, or any received a signal."""
        up = minutes is not None and time.monotonic() - start >= 60 * minutes
        mine = torch.tensor([float(up and self.accelerator.is_main_process), float(interrupt.requested)])
        if self.accelerator.num_processes > 1:
            mine = self.accelerator.reduce(mine.to(self.accelerator.device), "sum").cpu()
        if mine[1]:  # never write False: a signal may have set it since it was read
            interrupt.requested = True
        return bool(mine.any())

    def _reported_step(self) -> StepReport:
        """Run one step; then write the log line, the checkpoint and the samples that are due."""
        run, began = self.recipe.run, time.monotonic()
        self._step_finished = False
        scalars = self._one_step()
        self._step_finished = True
        seconds = time.monotonic() - began
        self._last = report = StepReport(self.step, seconds, self.samples, self.seconds + seconds, scalars)
        if self.step % run.log_every == 0:
            self._log()
        if self.step % run.checkpoint_every == 0:
            self.save()
        if self.step % run.sample_every == 0 and self.accelerator.is_main_process:
            self._sample()
        self.seconds += time.monotonic() - began
        return report

    def _one_step(self) -> dict[str, float]:
        scalars: dict[str, float] = {}
        for phase in self.task.phases:
            if self.step >= phase.start:
                scalars |= self._phase_step(phase)
        self.step += 1
        self.samples += self.recipe.optim.batch * self.recipe.optim.accumulate * self.accelerator.num_processes
        return scalars

    def _phase_step(self, phase: Phase) -> dict[str, float]:
        optim, optimizer = self.recipe.optim, self.trained.optimizers[phase.name]
        module = self.trained.modules[phase.name]
        for group in optimizer.param_groups:
            group["lr"] = optim.lr_at(self.step)
        scalars: dict[str, float] = {}
        for micro in range(optim.accumulate):
            batch = self._batch(phase, micro)
            last = micro == optim.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(module):
                with self.accelerator.autocast():
                    loss, named = module(batch)
                self._guard.check_loss(phase, loss, batch, self.step)
                self.accelerator.backward(loss / optim.accumulate)
            for name, value in {"loss": loss.detach(), **named}.items():
                key = f"{phase.name}/{name}"
                scalars[key] = scalars.get(key, 0.0) + float(value) / optim.accumulate
        norm = self.accelerator.clip_grad_norm_(module.parameters(), optim.clip)
        self._guard.check_gradient(phase, norm, self.step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.trained.ema[phase.name].step(phase.module.parameters())
        return scalars | {f"{phase.name}/gradient": float(norm)}

    def _batch(self, phase: Phase, micro: int) -> Batch:
        rank = self.accelerator.process_index
        generator = step_generator(self.recipe.seed, self.step, rank, tag=phase.name, micro=micro)
        batch = self.task.batch(generator, self.recipe.optim.batch)
        batch = {name: value.to(self.accelerator.device) for name, value in batch.items()}
        return batch | {"step": torch.tensor(self.step)}

    # ------------------------------------------------------------------ output files

    def save(self) -> Path:
        """Write a checkpoint of the weights, EMA weights and optimizer states; return when all processes are done.

        Returns:
            The folder of the checkpoint.

        Raises:
            NonFinite: one of the tensors is not finite; nothing is written.
        """
        path = self._write()
        self.accelerator.wait_for_everyone()
        return path

    def _write(self) -> Path:
        self._saved = self.step  # set first: if the disk is full, `steps` must not try again while it ends
        tensors = self.trained.tensors(self.step)
        self._log()
        if self.accelerator.is_main_process:
            write_checkpoint(self.folder / "checkpoints", self.step, tensors, self._state(), self.recipe.run.keep)
        return self.folder / "checkpoints" / f"step-{self.step:08d}"

    def _state(self) -> dict[str, Any]:
        mine = {"samples": self.samples, "kind": self.recipe.kind, "bound_to": dict(self.task.bound_to)}
        if self._auto:
            mine["precision_of"] = {processor(self.accelerator.device): self.recipe.run.precision}
        return mine | self.trained.state()

    def _resume(self) -> None:
        """Load the newest checkpoint, if there is one."""
        found = read_newest(self.folder / "checkpoints")
        if found is None:
            return
        path, (tensors, state) = found
        refuse_another_kind(self.folder, self.recipe.kind, state)
        before = state.get("bound_to", {})
        refuse_changes(self.folder, before, self.task.bound_to)
        if self.accelerator.is_main_process:
            warn_of_gaps(path, before, self.task.bound_to)
        self.trained.restore(tensors, state, path)
        self.step, self.samples, self._saved = state["step"], state["samples"], state["step"]

    def _log(self) -> None:
        """Log the last step, if it has not been logged yet."""
        last, self._last = self._last, None
        if last and self.accelerator.is_main_process:
            self.record.log(last.step, last.samples, last.seconds, last.elapsed, last.scalars)

    def _sample(self) -> None:
        # Not compiled: samples have other batch sizes and no gradients, so they would be compiled again, for minutes.
        with self.trained.ema_weights(), torch.compiler.set_stance("force_eager"):
            self.task.sample(self.folder / "samples", self.step)

    def export(self, folder: Path) -> None:
        """Write the trained networks, with the EMA weights, and `training.json` to `folder` (first process only)."""
        if self.accelerator.is_main_process:
            with self.trained.ema_weights(), contiguous([phase.module for phase in self.task.phases]):
                self.task.export(folder)
            write_text(folder / SUMMARY, json.dumps(self._summary(), indent=1) + "\n")
        self.accelerator.wait_for_everyone()

    def _summary(self) -> dict[str, Any]:
        parameters = {phase.name: sum(p.numel() for p in phase.module.parameters()) for phase in self.task.phases}
        count, device = self.task.image_count, name_of(self.accelerator.device)
        return self.record.summary(
            self.step, self.samples, self.seconds, device=device, pictures=count, parameters=parameters
        )

    def close(self) -> None:
        """Release the lock and end the process group, all processes together; call it before a process exits."""
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        self._lock = None
