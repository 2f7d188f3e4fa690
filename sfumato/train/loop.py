"""The one training loop, on accelerate: one process, several GPUs and several machines run the same code.

The loop is a generator that yields after every step, so that progress bars, plots and early stopping are the
caller's `for` loop. It always ends with a valid checkpoint, also on an exception of the caller.
"""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from sfumato.errors import BadInput, NonFinite
from sfumato.train.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint
from sfumato.train.recipe import Recipe
from sfumato.train.seeds import step_generator
from sfumato.train.task import Batch, Phase, Task


@dataclass(frozen=True)
class StepReport:
    """What one finished optimizer step measured; `step` counts finished steps, `scalars` are this process's."""

    step: int
    seconds: float
    samples: int
    scalars: dict[str, float] = field(default_factory=dict)


class Run:
    """One training run in one folder: `checkpoints/`, `log.jsonl`, `samples/`, `recipe.json`.

    Args:
        task: what is trained.
        recipe: how.
        folder: the run's folder; a run that was killed goes on from its newest valid checkpoint.
        device: "cpu", "cuda" or None (what accelerate finds).
    """

    def __init__(self, task: Task, recipe: Recipe, folder: Path, device: str | None = None) -> None:
        self.task, self.recipe, self.folder = task, recipe, folder
        precision = {"fp32": "no"}.get(recipe.run.precision, recipe.run.precision)
        self.accelerator = Accelerator(mixed_precision=precision, cpu=device == "cpu")
        self.step, self.samples = 0, 0
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, Any] = {}
        self.averages: dict[str, EMAModel] = {}
        for phase in task.phases:
            self._prepare(phase)
        self._resume()

    def _prepare(self, phase: Phase) -> None:
        optim = self.recipe.optim
        parameters = [p for p in phase.module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )
        module, self.optimizers[phase.name] = self.accelerator.prepare(phase.module, optimizer)
        self.modules[phase.name] = module
        self.averages[phase.name] = EMAModel(phase.module.parameters(), decay=optim.ema, use_ema_warmup=False)
        self.averages[phase.name].to(self.accelerator.device)

    # ------------------------------------------------------------------ stepping

    def steps(self, minutes: float | None = None) -> Iterator[StepReport]:
        """Train until the recipe's last step or for `minutes`, whichever comes first.

        Raises:
            NonFinite: a loss or gradient is NaN or infinite; raised before the optimizer step, so the newest
                checkpoint holds only finite weights.
        """
        start, saved = time.monotonic(), self.step
        run = self.recipe.run
        try:
            while self.step < run.steps and not self._time_is_up(start, minutes):
                began = time.monotonic()
                scalars = self._one_step()
                report = StepReport(self.step, time.monotonic() - began, self.samples, scalars)
                if self.step % run.log_every == 0:
                    self._log(report)
                if self.step % run.checkpoint_every == 0:
                    self.save()
                    saved = self.step
                if self.step % run.sample_every == 0 and self.accelerator.is_main_process:
                    self._sample()
                yield report
        except NonFinite:
            saved = self.step
            raise
        finally:
            if saved != self.step:
                self.save()

    def _time_is_up(self, start: float, minutes: float | None) -> bool:
        """Decided by the first process for all, since their clocks differ."""
        up = minutes is not None and time.monotonic() - start >= 60 * minutes
        if self.accelerator.num_processes == 1:
            return up
        flag = torch.tensor(float(up and self.accelerator.is_main_process), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    def _one_step(self) -> dict[str, float]:
        scalars: dict[str, float] = {}
        for phase in self.task.phases:
            if self.step >= phase.start:
                scalars |= self._turn(phase)
        self.step += 1
        self.samples += self.recipe.optim.batch * self.recipe.optim.accumulate * self.accelerator.num_processes
        return scalars

    def _turn(self, phase: Phase) -> dict[str, float]:
        optim, optimizer = self.recipe.optim, self.optimizers[phase.name]
        module = self.modules[phase.name]
        for group in optimizer.param_groups:
            group["lr"] = optim.lr_at(self.step)
        scalars: dict[str, float] = {}
        for micro in range(optim.accumulate):
            batch = self._batch(phase, micro)
            last = micro == optim.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(module):
                with self.accelerator.autocast():
                    loss, named = module(batch)
                self._stop_if_not_finite(loss, f"the {phase.name} loss")
                self.accelerator.backward(loss / optim.accumulate)
            for name, value in {"loss": loss.detach(), **named}.items():
                key = f"{phase.name}/{name}"
                scalars[key] = scalars.get(key, 0.0) + float(value) / optim.accumulate
        norm = self.accelerator.clip_grad_norm_(module.parameters(), optim.clip)
        if self.accelerator.scaler is None:
            self._stop_if_not_finite(norm, f"the {phase.name} gradient norm")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.averages[phase.name].step(phase.module.parameters())
        return scalars | {f"{phase.name}/gradient": float(norm)}

    def _batch(self, phase: Phase, micro: int) -> Batch:
        rank = self.accelerator.process_index
        generator = step_generator(self.recipe.seed, self.step, rank, tag=phase.name, micro=micro)
        batch = self.task.batch(generator, self.recipe.optim.batch)
        return {name: value.to(self.accelerator.device) for name, value in batch.items()}

    def _stop_if_not_finite(self, value: Tensor, what: str) -> None:
        """Every process stops when one of them meets a non-finite value."""
        bad = (~torch.isfinite(value.detach())).float().sum()
        if self.accelerator.num_processes > 1:
            bad = self.accelerator.reduce(bad, "sum")
        if bad.item() > 0:
            raise NonFinite(f"{what} is not finite at step {self.step}; the weights were not changed by this step.")

    # ------------------------------------------------------------------ what is written

    def save(self) -> Path:
        """Write a checkpoint of the weights, their averages and the optimizer state."""
        tensors: dict[str, dict[str, Tensor]] = {}
        if self.accelerator.is_main_process:
            for phase in self.task.phases:
                tensors[f"{phase.name}"] = {k: v for k, v in phase.module.state_dict().items()}
                tensors[f"{phase.name}.average"] = _numbered(self.averages[phase.name].shadow_params)
                tensors[f"{phase.name}.optimizer"] = _flatten(self.optimizers[phase.name].state_dict())
            state = {"samples": self.samples, "kind": self.recipe.kind}
            write_checkpoint(self.folder / "checkpoints", self.step, tensors, state, self.recipe.run.keep)
        self.accelerator.wait_for_everyone()
        return self.folder / "checkpoints" / f"step-{self.step:08d}"

    def _resume(self) -> None:
        path = newest_checkpoint(self.folder / "checkpoints")
        if path is None:
            return
        tensors, state = read_checkpoint(path)
        if state["kind"] != self.recipe.kind:
            raise BadInput(f"{self.folder} holds a run of kind '{state['kind']}'; give this one its own folder.")
        for phase in self.task.phases:
            try:
                phase.module.load_state_dict(tensors[phase.name])
            except (KeyError, RuntimeError) as error:
                raise BadInput(
                    f"the checkpoint {path} belongs to another network than the recipe's; give this run its own folder."
                ) from error
            average = self.averages[phase.name]
            for shadow, value in zip(average.shadow_params, tensors[f"{phase.name}.average"].values(), strict=True):
                shadow.copy_(value)
            average.optimization_step = state["step"] - phase.start if state["step"] > phase.start else 0
            optimizer = self.optimizers[phase.name]
            optimizer.load_state_dict(_unflatten(tensors[f"{phase.name}.optimizer"], optimizer.state_dict()))
        self.step, self.samples = state["step"], state["samples"]

    def _log(self, report: StepReport) -> None:
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            row = {"step": report.step, "samples": report.samples, "seconds": round(report.seconds, 4)}
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(row | {k: round(v, 6) for k, v in report.scalars.items()}) + "\n")

    def _sample(self) -> None:
        with self.averaged():
            self.task.sample(self.folder / "samples", self.step)

    def averaged(self) -> "_Averaged":
        """A context in which every phase's module holds its averaged (EMA) weights."""
        return _Averaged(self)

    def export(self, folder: Path) -> None:
        """Write the trained networks, with averaged weights, to `folder` (first process only)."""
        if self.accelerator.is_main_process:
            with self.averaged():
                self.task.export(folder)
        self.accelerator.wait_for_everyone()


class _Averaged:
    def __init__(self, run: Run) -> None:
        self.run = run

    def __enter__(self) -> None:
        for phase in self.run.task.phases:
            parameters = list(phase.module.parameters())
            self.run.averages[phase.name].store(parameters)
            self.run.averages[phase.name].copy_to(parameters)

    def __exit__(self, *_: object) -> None:
        for phase in self.run.task.phases:
            self.run.averages[phase.name].restore(list(phase.module.parameters()))


def _numbered(tensors: list[Tensor]) -> dict[str, Tensor]:
    return {f"{i:05d}": t for i, t in enumerate(tensors)}


def _flatten(state: dict[str, Any]) -> dict[str, Tensor]:
    """Adam's state as named tensors: `00012.exp_avg` and so on (no pickle)."""
    return {f"{i:05d}.{name}": value for i, entry in state["state"].items() for name, value in entry.items()}


def _unflatten(flat: dict[str, Tensor], like: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": like["param_groups"]}
