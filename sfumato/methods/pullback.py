"""Unsupervised directions: pullback directions of the bottleneck and geodesic shooting.

Park, Kwon, Jo, Uh: "Unsupervised Discovery of Semantic Latent Directions in Diffusion Models", arXiv 2302.12469, with
DDIM inversion. The edit changes the latent x_t at a single timestep; all other steps are those of the regular reverse
process, so that the edit can be combined with a target prompt, a mask and other shifts. Implemented: local directions
(sections 3.1 and 3.2), saved global directions (3.3), geodesic shooting (3.2), normalisation of the predicted x_0
(3.4), the quality boosting of Asyrp (arXiv 2210.10960, section 3.4), and random directions and principal components for
comparison. The Jacobian is computed under the prompt of the edit. Not implemented: the later version of the paper
(x-space guidance, arXiv 2307.12868).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.inversions import EVERY
from sfumato.options.pullback import PullbackParams, edited_step, planned

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.shift import Shift
    from sfumato.core.state import StepState
    from sfumato.geometry import MoveLatent, Shot


@method(
    "pullback",
    summary="directions without labels or text (2023): pullback metric of the bottleneck, geodesic shooting",
    params=PullbackParams,
    inversion="ddim",
    accepts=EVERY,
    section="pullback",
    handles=("latent", "noise map"),
)
def shifts(job: Job, params: PullbackParams) -> list[Shift]:
    """Change x_t at one step, and add fresh noise in the last steps if `boost` is not 0."""
    from sfumato.core.path import first_at
    from sfumato.shifts.boost import QualityBoost

    moves: list[Shift] = []
    if params.gamma:
        moves.append(_move(job, params))
    if params.boost:
        moves.append(QualityBoost(first_at(params.boost, len(job.schedule)), job.seeds))
    return moves


def _move(job: Job, params: PullbackParams) -> MoveLatent:
    """The shift that changes x_t at the edited timestep."""
    from sfumato.geometry import BottleneckMap, MoveLatent, shoot, shoot_straight
    from sfumato.geometry.basis import local_basis

    t = job.inversion.timesteps[edited_step(params)]
    plan = planned(job.network, params, t, job.inversion.x[0])
    saved, numbers, rank = plan.saved, plan.numbers, plan.rank

    def shots(state: StepState, x: Tensor) -> Iterator[Shot]:
        here = BottleneckMap(job.network, t, state.condition, plan.pool, params.chunk)
        if params.kind == "random":
            v = _mixed([(weight, _random(x, job.seeds, n)) for n, weight in numbers.items()])
            return shoot_straight(here, x, v, gamma=params.gamma, steps=params.shots)
        if saved is not None:
            u = saved.mix(plan.weights).to(x.device).expand(len(x), -1)
            return shoot(here, x, u, gamma=params.gamma, steps=params.shots, n=rank)
        # A single step needs only the named directions; further steps transport u into tangent spaces of `rank`.
        basis = local_basis(here, x, max(numbers) if params.shots == 1 else rank)
        u = _mixed([(weight, basis.u[:, n - 1]) for n, weight in numbers.items()])
        return shoot(here, x, u, gamma=params.gamma, steps=params.shots, n=rank, basis=basis)

    return MoveLatent(t, shots, params.kappa if params.normalise else None)


def _mixed(parts: list[tuple[float, Tensor]]) -> Tensor:
    """Compute sum_k w_k d_k, which is not 0, as the directions are linearly independent."""
    import torch

    return torch.stack([weight * direction for weight, direction in parts]).sum(dim=0)


def _random(x: Tensor, seeds: Sequence[int], number: int) -> Tensor:
    """A random unit vector per latent, of the shape of x; a function of (seed, number)."""
    import torch

    from sfumato.core.noise import gaussian_batch

    v = gaussian_batch(x.shape[1:], seeds, step=number, tag="random direction")
    return (v / torch.linalg.vector_norm(v, dim=(1, 2, 3), keepdim=True)).to(x)
