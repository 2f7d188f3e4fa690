"""Convert diffusers' scheduler configurations to a `Schedule`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import diffusers
from diffusers import DDIMScheduler, DDPMScheduler

from sfumato.core.schedule import Schedule, Spacing
from sfumato.errors import BadInput
from sfumato.models.index import SCHEDULERS
from sfumato.networks.configs import scheduler_settings
from sfumato.networks.places import GIVE

LEARNED = ("learned", "learned_range")
# The beta schedules of DDIMScheduler, which computes abar here; DDPMScheduler has others.
KNOWN = ("linear", "scaled_linear", "squaredcos_cap_v2")
#: Largest number of training timesteps; nearly all networks have 1000.
MOST_TIMESTEPS = 100_000


def read_scheduler(folder: Path, kind: str) -> Any:
    """Load the scheduler of a pipeline folder; `kind` is a class name in `SCHEDULERS`.

    As in diffusers, its `config` also contains arguments of DDIMScheduler and DDPMScheduler that are in the file but
    not in the class, such as set_alpha_to_one in SDXL's file, which EulerDiscreteScheduler does not have.

    Raises:
        BadInput: the file cannot be read, has no settings, or has invalid values.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    scheduler = getattr(diffusers, kind)
    settings = scheduler_settings((scheduler, DDIMScheduler, DDPMScheduler), path, folder)
    if not settings:  # the defaults of diffusers would be used, which are rarely those of the training
        raise BadInput(f"{path} has no settings of a {kind}, such as its betas; {GIVE}.")
    timesteps = settings.get("num_train_timesteps", 1000)
    if not isinstance(timesteps, int) or not 1 <= timesteps <= MOST_TIMESTEPS:
        raise BadInput(f"{path}: num_train_timesteps must be from 1 to {MOST_TIMESTEPS:,}, not {timesteps!r:.100}.")
    return _create_scheduler(scheduler, settings)


def schedule_from_config(config: Mapping[str, Any], *, pixels: bool = False) -> Schedule:
    """The noise schedule that a network was trained with, from the configuration of any solver.

    Settings of the solver (order, Karras sigmas, ancestral sampling) concern sampling in diffusers, not the training of
    the network. They are not part of the schedule. Neither is the large fixed variance beta_t ("fixed_large"): here
    eta = 1 has the small variance, which is better for runs with fewer steps than in training (Song et al., arXiv
    2010.02502, table 1). `alphas_cumprod` are the float32 values of diffusers, converted to float64. With zero terminal
    SNR (Lin et al., arXiv 2305.08891) the last one is 0, as in DDIMScheduler; EulerDiscreteScheduler has 2^-24.

    Args:
        config: content of `scheduler_config.json`, or a scheduler's `config` with its class as "_class_name".
        pixels: whether x_0 is pixels. Only then "clip_sample" has an effect: sampling clips P_t to the range of pixels.

    Raises:
        BadInput: the schedule is not variance-preserving or not defined by betas, the variance is learned, dynamic
            thresholding is enabled, or the timestep spacing does not exist.
    """
    config = _complete(config)
    name = config["_class_name"]
    if config.get("variance_type") in LEARNED:
        raise BadInput(f"{name} expects a learned variance, which is not supported: use a model with fixed variance.")
    if config.get("thresholding"):
        raise BadInput(
            f"{name} expects dynamic thresholding, which is not supported: set thresholding to false in "
            "scheduler_config.json."
        )
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


def with_settings(scheduler: Any, settings: Mapping[str, Any]) -> DDIMScheduler:
    """A scheduler with other settings of its schedule, as DDIMScheduler, because other classes lack some of them.

    Args:
        scheduler: a scheduler of diffusers.
        settings: prediction_type, rescale_betas_zero_snr, timestep_spacing.
    """
    config = _complete({**scheduler.config, "_class_name": type(scheduler).__name__})
    return DDIMScheduler.from_config({n: v for n, v in config.items() if n != "_class_name"} | dict(settings))


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults of the configured scheduler class for settings that the file omits.

    Otherwise diffusers would use the defaults of the class that it converts to, which may differ.
    """
    name = config.get("_class_name", "The scheduler")
    filled = dict(config)
    if name in SCHEDULERS:
        scheduler = _create_scheduler(getattr(diffusers, name), config)
        filled = _with_known_betas(dict(scheduler.config), scheduler)
    filled.pop("_use_default_values", None)
    return filled | {"_class_name": name}


def _create_scheduler(kind: Any, config: Mapping[str, Any]) -> Any:
    try:
        return kind.from_config(dict(config))
    except NotImplementedError:
        raise BadInput(
            f"{kind.__name__} has no beta_schedule {config.get('beta_schedule')!r:.100}: set one of "
            f"{', '.join(KNOWN)} in scheduler_config.json."
        ) from None


def _with_known_betas(config: dict[str, Any], scheduler: Any) -> dict[str, Any]:
    """Replace the name of a beta schedule that DDIMScheduler lacks ("sigmoid", "laplace") by the betas."""
    if config.get("beta_schedule") in (None, *KNOWN) or config.get("trained_betas") is not None:
        return config
    # rescale_betas_zero_snr is already applied to these betas
    return config | {"trained_betas": scheduler.betas.tolist(), "rescale_betas_zero_snr": False}
