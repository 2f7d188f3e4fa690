"""From diffusers' scheduler configurations to the schedule of the one loop."""

from collections.abc import Mapping
from typing import Any

import diffusers
from diffusers import DDIMScheduler

from sfumato.core.schedule import Schedule
from sfumato.errors import BadInput

LEARNED = ("learned", "learned_range")


def schedule_from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule that a network was trained on, whichever solver its folder names.

    A solver's own settings (order, Karras sigmas, Euler's ancestors) say how diffusers would sample, not what the
    network learned; they are not part of the schedule. `alphas_cumprod` are diffusers' float32 numbers, widened.

    Args:
        config: content of `scheduler_config.json`, or a scheduler's `config` with its class as "_class_name".

    Raises:
        BadInput: not a variance-preserving schedule of betas, or a learned variance.
    """
    config = _complete(config)
    name = config["_class_name"]
    if config.get("variance_type") in LEARNED:
        raise BadInput(f"{name} expects a learned variance, which is not supported: use a fixed-variance model.")
    prediction = config.get("prediction_type", "epsilon")
    if "beta_schedule" not in config or prediction not in ("epsilon", "v_prediction", "sample"):
        raise BadInput(
            f"{name} is not a schedule of betas with epsilon-, v- or sample-prediction (a flow or sigma schedule); "
            "use a model of the Stable Diffusion 1.x, 2.x, XL or DDPM kind."
        )
    ddim = DDIMScheduler.from_config({name: value for name, value in config.items() if name != "_class_name"})
    return Schedule(
        alphas_cumprod=ddim.alphas_cumprod.double(),
        final_alpha_cumprod=float(ddim.final_alpha_cumprod),
        prediction_type=prediction,
        spacing=ddim.config.timestep_spacing,
        steps_offset=ddim.config.steps_offset,
    )


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of the class that the config names: old files leave settings out.

    diffusers remembers which settings were left out and would give them the defaults of the class that it converts
    to, which are others.
    """
    kind = getattr(diffusers, str(config.get("_class_name")), None)
    filled = dict(config) if kind is None else dict(kind.from_config(dict(config)).config)
    filled.pop("_use_default_values", None)
    return filled | {"_class_name": config.get("_class_name", "The scheduler")}
