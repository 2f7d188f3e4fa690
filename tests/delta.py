"""An untrained delta-h for tests."""

from typing import Any

from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.delta_h import DeltaH
from sfumato.shifts.delta_networks import build, shape_of
from tests.tiny import seeded


def delta_of(
    model: DiffusionModel,
    size: tuple[int, int],
    steps: int,
    *,
    kind: str = "block",
    seed: int = 0,
    t_edit: int = 400,
    factor: float = 1.0,
    **changes: Any,
) -> DeltaH:
    """A delta-h with random weights for a model; `size` is that of the latents, `changes` replace fields."""
    timesteps = tuple(t for t in model.schedule.timesteps(steps) if t >= t_edit)
    with seeded(seed):
        network = build(kind, timesteps, shape_of(model, size), factor).requires_grad_(False)
    values: dict[str, Any] = {"attribute": "smile", "source": "face", "target": "smiling face", "steps": steps}
    values |= {"model": model.fingerprint(), "shape": shape_of(model, size), "timesteps": timesteps}
    return DeltaH(network, **values | {"t_edit": t_edit, "t_boost": 300} | changes)
