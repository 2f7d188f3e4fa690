"""Edits of one image along all saved directions, with several step lengths, from a single tangent basis."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.api.finish import add_residual, finished
from sfumato.api.group import decoded, padded_size
from sfumato.api.inverted import Inverted
from sfumato.core.path import first_at
from sfumato.errors import BadInput
from sfumato.geometry import Basis, BottleneckMap, Directions, Shot, local_basis, normalised, shoot
from sfumato.geometry.basis import largest_rank
from sfumato.geometry.jacobian import CHUNK
from sfumato.geometry.normalise import gain
from sfumato.inversion import replay
from sfumato.options.pullback import RANK, PullbackParams
from sfumato.shifts.boost import QualityBoost

Pixels: TypeAlias = NDArray[np.uint8]


def variations(
    inverted: Inverted,
    directions: Directions,
    gammas: Sequence[float],
    *,
    normalise: bool | None = None,
    chunk: int = CHUNK,
) -> Iterator[list[Pixels]]:
    """Yield, for each direction, the edits of an image by all step lengths, as edits by the method pullback.

    The tangent basis is the same for all directions and is computed once, and so is the edit by 0. All step lengths
    are evaluated in one batch.
    The skipped steps, the number of shots, the quality boosting, kappa, the rank and the guidance scale are those of
    the parameters with which the image was inverted.

    Args:
        inverted: one image, inverted for the method pullback with the number of steps that the directions belong to.
        directions: directions found by `sfumato.api.finding.search_directions`.
        gammas: step lengths of x_t, at least one; 0 gives the reconstruction.
        normalise: restore mean and standard deviation of the predicted x_0 (arXiv 2302.12469, section 3.4); None for
            the value of the image's parameters.
        chunk: maximum number of rows per pass of the Jacobian.

    Yields:
        Images uint8 [h,w,3], one per gamma.

    Raises:
        BadInput: there is more than one image or no gamma, the directions belong to another model, timestep or size
            of latents, the image was inverted for another method, its parameters skip the step of the directions, or
            the normalisation is not defined at their timestep. Raised before the network is evaluated.
    """
    if len(inverted) != 1:
        raise BadInput(f"Directions are shown on one inverted image, not on {len(inverted)}.")
    if not len(gammas):
        raise BadInput("Give at least one gamma.")
    network, step, params = inverted.model.network, directions.step, inverted.params
    if not isinstance(params, PullbackParams):
        raise BadInput(f"Directions move images inverted for the method pullback, not {inverted.method.name}.")
    if params.skip > step:
        raise BadInput(f"The edit skips {params.skip} steps, but these directions belong to step {step}: skip fewer.")
    inversion = inverted.groups[0].inversion
    t = inversion.timesteps[step]
    directions.check_fits(network, t, inversion.x.shape[2:])
    normalise = params.normalise if normalise is None else normalise
    if normalise:
        gain(network.schedule.abar(t), params.kappa)
    return _variations(inverted, directions, gammas, params, t, normalise, chunk)


def _variations(
    inverted: Inverted,
    directions: Directions,
    gammas: Sequence[float],
    params: PullbackParams,
    t: int,
    normalise: bool,
    chunk: int,
) -> Iterator[list[Pixels]]:
    group, network, step = inverted.groups[0], inverted.model.network, directions.step
    x = _reproduced(inverted, t)
    f = BottleneckMap(network, t, group.condition[[0]], directions.pool, chunk)
    rank = params.rank or min(RANK, largest_rank(f, x))
    basis = local_basis(f, x, rank)

    def images(ends: list[Tensor]) -> list[Pixels]:
        """Denoise several x_t in one batch."""
        inversion, moved = group.inversion.rows([0] * len(ends)), torch.cat(ends)
        scales, size = [params.guidance_scale] * len(ends), padded_size(network, group.size)
        guidance = inverted.model.guided(scales, size, extra=group.extra[[0]].repeat(len(ends)))
        condition = group.condition[[0]].repeat(len(ends))
        if normalise:
            with torch.no_grad():
                moved = normalised(
                    lambda each: guidance.predict(each, t, condition),
                    x.expand(len(ends), -1, -1, -1),
                    moved,
                    network.schedule.abar(t),
                    params.kappa,
                )
        latents = inversion.x.clone()
        latents[step] = moved
        below = first_at(params.boost, len(network.schedule))
        boost = [QualityBoost(below, inversion.seeds)] if below else []
        *_, last = replay(guidance, replace(inversion, x=latents), condition, skip=step, shifts=boost)
        return _finished_images(inverted, last.x_prev)

    found: dict[float, Pixels] = {}
    for u in directions.u.to(x.device):
        now = [gamma for gamma in dict.fromkeys(gammas) if gamma or gamma not in found]  # 0 is the same for all u
        ends = [[x, *(each.x for each in _shots(f, x, u[None], gamma, params.shots, basis))][-1] for gamma in now]
        if now:
            found.update(zip(now, images(ends), strict=True))
        yield [found[gamma].copy() for gamma in gammas]


def _shots(f: BottleneckMap, x: Tensor, u: Tensor, gamma: float, shots: int, basis: Basis) -> Iterator[Shot]:
    """Steps from x along u; none with gamma = 0."""
    return shoot(f, x, u, gamma=gamma, steps=shots, n=basis.n, basis=basis) if gamma else iter(())


def _reproduced(inverted: Inverted, t: int) -> Tensor:
    """Replay the inversion up to timestep t and return x_t, [1,c,h,w]."""
    for each in inverted.edit_steps("", gamma=0.0, normalise=False, kappa=PullbackParams.kappa):
        if each.state.t == t:
            return each.state.x_t
    raise AssertionError("the replay visits every timestep that is not skipped")


def _finished_images(inverted: Inverted, latents: Tensor | None) -> list[Pixels]:
    assert latents is not None
    group = inverted.groups[0]
    edited = decoded(group.network, latents, group.size)
    same = (len(edited), -1, -1, -1)
    source, autoencoded = group.source[:1].expand(same), group.autoencoded[:1].expand(same)
    restored = add_residual(edited, autoencoded, source, float(max(1, group.network.factor)))
    return [finished(each, group.source[0], group.images[0], None) for each in restored]
