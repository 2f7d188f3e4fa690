"""The noise of diffusion training: the beta schedule, the distribution of the timesteps, and the weight of the loss."""

from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.train.ranges import ranged


@dataclass(frozen=True)
class Timesteps:
    """Distribution of the timesteps in training.

    Attributes:
        timesteps: "uniform" or "logit_normal".
        logit_mean: mean of logit(t / 1000) for "logit_normal"; below 0, more than half of the timesteps are in the less
            noisy half of the schedule.
        logit_std: standard deviation of logit(t / 1000) for "logit_normal".
    """

    timesteps: str = "uniform"
    logit_mean: float = ranged(0.0, low=-10, high=10)
    logit_std: float = ranged(1.0, above=0)

    def check_timesteps(self) -> None:
        """Check the name of the distribution. Raises BadInput."""
        if self.timesteps not in ("uniform", "logit_normal"):
            raise BadInput(f"loss.timesteps must be 'uniform' or 'logit_normal', not '{self.timesteps}'.")

    def draw(self, size: int, count: int, generator: torch.Generator) -> Tensor:
        """Draw `size` timesteps in [0, count), [size].

        "logit_normal" is the distribution of Esser et al. (2024, equation 19): t = count * sigmoid(u) with u normal.
        With the linear schedule the signal-to-noise ratio is below 0.09 in the noisy half of the timesteps, so half of
        the uniform timesteps are nearly pure noise.
        """
        if self.timesteps == "uniform":
            return torch.randint(0, count, (size,), generator=generator)
        u = self.logit_mean + self.logit_std * torch.randn(size, generator=generator)
        return (count * u.sigmoid()).long().clamp(max=count - 1)


@dataclass(frozen=True)
class DiffusionLoss(Timesteps):
    """Prediction type, noise schedule and loss weighting: table [loss]; extends `Timesteps`.

    Attributes:
        prediction: "epsilon" or "v_prediction".
        schedule: beta schedule of diffusers: "linear", "scaled_linear" or "squaredcos_cap_v2".
        beta_start: first beta; not with "squaredcos_cap_v2", whose betas are fixed.
        beta_end: last beta; not with "squaredcos_cap_v2".
        min_snr: gamma of the min-SNR weighting (5 in the paper); 0 weights all timesteps equally. With v-prediction its
            weight is close to 0 in the noisy half of the schedule, where the caption determines the content.
        condition_dropout: caption dropout, the probability of replacing a caption by the empty prompt.
        grounding: weight of the loss that trains the cross-attention maps of an object's words to cover the object
            (`sfumato.train.grounding`); requires scenes.
        skip_dropout: probability of setting the skip connections to 0, for samples with much noise
            (`sfumato.train.skips`).
    """

    prediction: str = "v_prediction"
    schedule: str = "linear"
    beta_start: float = ranged(1e-4, above=0, below=1)
    beta_end: float = ranged(0.02, above=0, below=1)
    min_snr: float = ranged(0.0, low=0)
    condition_dropout: float = ranged(0.1, low=0, high=1)
    grounding: float = ranged(0.0, low=0)
    skip_dropout: float = ranged(0.0, low=0, below=1)


_DEFAULT_BETAS = DiffusionLoss.beta_start, DiffusionLoss.beta_end


def noise_scheduler(loss: DiffusionLoss) -> DDIMScheduler:
    """Build the scheduler, with 1000 training timesteps; the exported pipeline contains it.

    Raises:
        BadInput: a setting is out of its range, or has no effect with the schedule.
    """
    if loss.prediction not in ("epsilon", "v_prediction"):
        raise BadInput(f"loss.prediction must be 'epsilon' or 'v_prediction', not '{loss.prediction}'.")
    if loss.schedule not in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        raise BadInput(f"loss.schedule must be linear, scaled_linear or squaredcos_cap_v2, not '{loss.schedule}'.")
    loss.check_timesteps()
    if loss.schedule == "squaredcos_cap_v2" and (loss.beta_start, loss.beta_end) != _DEFAULT_BETAS:
        raise BadInput(
            "loss.beta_start and loss.beta_end have no effect with loss.schedule = 'squaredcos_cap_v2': leave them out."
        )
    if not 0 < loss.beta_start <= loss.beta_end < 1:
        raise BadInput(
            f"loss.beta_start = {loss.beta_start} and loss.beta_end = {loss.beta_end} must satisfy "
            "0 < beta_start <= beta_end < 1."
        )
    return DDIMScheduler(
        beta_schedule=loss.schedule, beta_start=loss.beta_start, beta_end=loss.beta_end,
        prediction_type=loss.prediction, clip_sample=False, set_alpha_to_one=True, steps_offset=1,
        timestep_spacing="leading",
    )  # fmt: skip
