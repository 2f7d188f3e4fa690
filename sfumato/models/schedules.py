"""From diffusers' scheduler configurations to the schedule of the one loop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import diffusers
from diffusers import DDIMScheduler

from sfumato.core.schedule import Schedule, Spacing
from sfumato.errors import BadInput
from sfumato.networks.configs import scheduler_settings

LEARNED = ("learned", "learned_range")
# The beta schedules of DDIMScheduler, which is asked for abar; DDPMScheduler knows others.
KNOWN = ("linear", "scaled_linear", "squaredcos_cap_v2")
#: The classes that a folder may name; the last line's have other schedules, and are refused with the reason.
SCHEDULERS = frozenset(
    f"{name}Scheduler"
    for name in (
        "DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep",
        "DPMSolverMultistepInverse", "DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete",
        "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete", "PNDM", "RePaint", "SASolver",
        "TCD", "UnCLIP", "UniPCMultistep",
        "CMStochasticIterative", "CosineDPMSolverMultistep", "EDMDPMSolverMultistep", "EDMEuler",
        "FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "IPNDM", "KarrasVe", "ScoreSdeVe", "ScoreSdeVp",
    )
)  # fmt: skip
#: Timesteps that a network was trained on: a thousand nearly everywhere.
MOST_TIMESTEPS = 100_000


def read_scheduler(folder: Path, kind: str) -> Any:
    """The scheduler of a pipeline folder, of the class of that name in `SCHEDULERS`.

    Raises:
        BadInput: a file that cannot be read, or says what no scheduler has.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    scheduler = getattr(diffusers, kind)
    settings = scheduler_settings(scheduler, path, folder)
    timesteps = settings.get("num_train_timesteps", 1000)
    if not isinstance(timesteps, int) or not 1 <= timesteps <= MOST_TIMESTEPS:
        raise BadInput(f"{path}: num_train_timesteps must be from 1 to {MOST_TIMESTEPS:,}, not {timesteps!r:.100}.")
    return _opened(scheduler, settings)


def schedule_from_config(config: Mapping[str, Any], *, pixels: bool = False) -> Schedule:
    """The schedule that a network was trained on, whichever solver its folder names.

    A solver's own settings (order, Karras sigmas, Euler's ancestors) say how diffusers would sample, not what the
    network learned; they are not part of the schedule. Neither is the large fixed variance beta_t ("fixed_large"):
    eta = 1 is the small one here, which is the better of the two in fewer steps than were trained (Song et al.,
    arXiv 2010.02502, table 1). `alphas_cumprod` are diffusers' float32 numbers, widened.

    Args:
        config: content of `scheduler_config.json`, or a scheduler's `config` with its class as "_class_name".
        pixels: whether x_0 is pixels; then "clip_sample" says that sampling keeps to their range. Pipelines with an
            autoencoder never clip, whatever the file says.

    Raises:
        BadInput: not a variance-preserving schedule of betas, a learned variance, dynamic thresholding, or a spacing
            of timesteps that does not exist.
    """
    config = _complete(config)
    name = config["_class_name"]
    if config.get("variance_type") in LEARNED:
        raise BadInput(f"{name} expects a learned variance, which is not supported: use a fixed-variance model.")
    if config.get("thresholding"):
        raise BadInput(f"{name} expects dynamic thresholding, which is not supported: set thresholding to false in it.")
    prediction = config.get("prediction_type", "epsilon")
    if "beta_schedule" not in config or prediction not in ("epsilon", "v_prediction", "sample"):
        raise BadInput(
            f"{name} is not a schedule of betas with epsilon-, v- or sample-prediction (a flow or sigma schedule); "
            "use a model of the Stable Diffusion 1.x, 2.x, XL or DDPM kind."
        )
    if config.get("timestep_spacing", "leading") not in get_args(Spacing):
        raise BadInput(
            f"{name} has the timestep_spacing {config['timestep_spacing']!r:.100}, which does not exist: set it to "
            f"{', '.join(get_args(Spacing))} in scheduler_config.json."
        )
    ddim = DDIMScheduler.from_config({name: value for name, value in config.items() if name != "_class_name"})
    return Schedule(
        alphas_cumprod=ddim.alphas_cumprod.double(),
        final_alpha_cumprod=float(ddim.final_alpha_cumprod),
        prediction_type=prediction,
        spacing=ddim.config.timestep_spacing,
        steps_offset=ddim.config.steps_offset,
        sample_range=float(config.get("clip_sample_range", 1.0)) if pixels and config.get("clip_sample") else None,
    )


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of the class that the config names: old files leave settings out.

    diffusers remembers which settings were left out and would give them the defaults of the class that it converts
    to, which are others.
    """
    name = config.get("_class_name", "The scheduler")
    filled = dict(config)
    if name in SCHEDULERS:
        scheduler = _opened(getattr(diffusers, name), config)
        filled = _with_known_betas(dict(scheduler.config), scheduler)
    filled.pop("_use_default_values", None)
    return filled | {"_class_name": name}


def _opened(kind: Any, config: Mapping[str, Any]) -> Any:
    try:
        return kind.from_config(dict(config))
    except NotImplementedError:
        raise BadInput(
            f"{kind.__name__} has no beta_schedule {config.get('beta_schedule')!r:.100}: set one of "
            f"{', '.join(KNOWN)} in scheduler_config.json."
        ) from None


def _with_known_betas(config: dict[str, Any], scheduler: Any) -> dict[str, Any]:
    """The betas themselves in place of the name of a schedule ("sigmoid", "laplace") that DDIMScheduler lacks."""
    if config.get("beta_schedule") in (None, *KNOWN) or config.get("trained_betas") is not None:
        return config
    # its betas are rescaled already, where they are to be
    return config | {"trained_betas": scheduler.betas.tolist(), "rescale_betas_zero_snr": False}
