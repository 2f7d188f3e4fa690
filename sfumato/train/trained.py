"""The training state: networks, optimizers and EMA weights, and how checkpoints store it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from sfumato.errors import BadInput, NonFinite
from sfumato.train.finite import first_not_finite
from sfumato.train.optimizer import decay_groups, flatten, unflatten
from sfumato.train.processes import together
from sfumato.train.recipe import Recipe
from sfumato.train.state import EMAWeights, numbered
from sfumato.train.task import Phase

_LOG = logging.getLogger(__name__)


class Trained:
    """The networks of all phases of a task with their optimizers and EMA weights, by the name of the phase.

    Args:
        phases: phases of the task.
        recipe: settings of the run.
        accelerator: accelerator of the run.

    Attributes:
        modules: the modules, wrapped by accelerate.
        optimizers: an AdamW optimizer for each module.
        ema: the exponential moving average (EMA) of the weights of each module.
    """

    def __init__(self, phases: Sequence[Phase], recipe: Recipe, accelerator: Accelerator) -> None:
        self.phases, self.accelerator = phases, accelerator
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, Any] = {}
        self.ema: dict[str, EMAModel] = {}
        if recipe.run.compile and not any(phase.compiled for phase in phases):
            _LOG.warning("run.compile has no effect: a run of kind '%s' compiles no network.", recipe.kind)
        for phase in phases:
            self._prepare(phase, recipe)

    def _prepare(self, phase: Phase, recipe: Recipe) -> None:
        optim, run = recipe.optim, recipe.run
        if run.channels_last:
            phase.module.to(memory_format=torch.channels_last)
        for network in phase.compiled if run.compile else ():
            if together():
                # Otherwise torch.compile splits the graph at DDP's buckets and fails on the compiled subgraphs.
                torch._dynamo.config.optimize_ddp = False
            network.compile()
        groups = decay_groups(phase.module, optim.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)
        self.modules[phase.name], self.optimizers[phase.name] = self.accelerator.prepare(phase.module, optimizer)
        self.ema[phase.name] = EMAModel(phase.module.parameters(), decay=optim.ema, use_ema_warmup=False)
        self.ema[phase.name].to(self.accelerator.device)

    def ema_weights(self) -> EMAWeights:
        """Context in which the modules of all phases have their EMA weights."""
        return EMAWeights((phase.module, self.ema[phase.name]) for phase in self.phases)

    def tensors(self, step: int) -> dict[str, dict[str, Tensor]]:
        """Weights, EMA weights and optimizer states as {file name without suffix: {name: tensor}}.

        Raises:
            NonFinite: a tensor is not finite.
        """
        tensors: dict[str, dict[str, Tensor]] = {}
        for phase in self.phases:
            tensors[phase.name] = dict(phase.module.state_dict())
            tensors[rf"{phase.name}.ema"] = numbered(self.ema[phase.name].shadow_params)
            tensors[f"{phase.name}.optimizer"] = flatten(self.optimizers[phase.name], phase.module)
        for file, group in tensors.items():
            if name := first_not_finite(group.items()):
                raise NonFinite(f"'{name}' of {file} is not finite at step {step}; no checkpoint was written.")
        return tensors

    def state(self) -> dict[str, Any]:
        """The rest of the state, for JSON: number of steps of each EMA, and the gradient scaler of fp16."""
        found: dict[str, Any] = {"ema_steps": {name: each.optimization_step for name, each in self.ema.items()}}
        scaler = self.accelerator.scaler
        return found if scaler is None else found | {"scaler": scaler.state_dict()}

    def restore(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], path: Path) -> None:
        """Load a checkpoint. Phases that it does not contain (such as a GAN added to the recipe) are not changed.

        Args:
            tensors: as returned by `tensors`.
            state: as returned by `state`, with `step`.
            path: the checkpoint, for the error message.

        Raises:
            BadInput: the checkpoint does not match the networks.
        """
        for phase in self.phases:
            if phase is self.phases[0] or phase.name in tensors:
                self._restore(phase, tensors, state, path)
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _restore(self, phase: Phase, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], path: Path) -> None:
        ema, optimizer = self.ema[phase.name], self.optimizers[phase.name]
        try:
            phase.module.load_state_dict(tensors[phase.name])
            for shadow, value in zip(ema.shadow_params, tensors[rf"{phase.name}.ema"].values(), strict=True):
                shadow.copy_(value)
            optimizer.load_state_dict(unflatten(tensors[f"{phase.name}.optimizer"], optimizer, phase.module))
        except (KeyError, RuntimeError, ValueError) as error:
            raise BadInput(
                f"the checkpoint {path} does not match the networks of the recipe; restore the recipe's settings, or "
                "give this run its own folder."
            ) from error
        finished = max(0, state["step"] - phase.start)
        ema.optimization_step = state.get("ema_steps", {}).get(phase.name, finished)
