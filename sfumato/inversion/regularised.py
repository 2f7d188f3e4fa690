"""DDIM inversion whose noise is regularised towards white noise, from pix2pix-zero (arXiv 2302.03027, section 3.2).

During a DDIM inversion, the predicted noise is correlated with the image, so that x_T is not white noise. After every
evaluation, eps is therefore updated by gradient steps n <- n - w grad L(n) on two losses. With n_0 = n (initially eps),
its pyramid n_p, and the mean mu and variance var of n:

    L_pair  = sum_p sum_c (mean_xy n_p roll_x(n_p, d))^2 + (mean_xy n_p roll_y(n_p, d))^2      autocorrelation
    L_KL    = var + mu^2 - 1 - log var                                                 2 KL(N(mu, var) || N(0, 1))
    n_{p+1} = 2 avgpool_{2x2}(n_p)                                       until the shorter side is at most 8

The paper sums over all shifts d. As in the authors' code, d is drawn at random for every gradient step instead, here as
a function of (seed, t). Rolls are circular, so that the shifts d and S - d of a side S are equivalent and 1 to S / 2
are sufficient. The factor 2 preserves the variance of white noise. It is assumed to be that of the paper, whose text
was not available for a check; the authors' code averages without it, so that level p has 16^-p times the weight
(`OFFICIAL`). L_pair is of fourth order in the noise, so that steps with a fixed weight w diverge if eps is far from
white noise. The length of a step is therefore limited to a tenth of the norm of the noise. Predictions close to N(0, 1)
do not reach this limit, and the weights are those of the authors' code.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.noise import stream
from sfumato.core.state import NetworkTap, StepEnd, check_finite
from sfumato.core.step import mean, noise_map, to_float64
from sfumato.inversion.artifact import Inversion
from sfumato.inversion.ddim import invert_ddim

COARSEST = 8
"""The pyramid ends at the first level whose shorter side is at most this, in latent positions."""
LONGEST = 0.1
"""Maximum length of a gradient step, as a fraction of the norm of the noise of the row."""


@dataclass(frozen=True)
class Regulariser:
    """Regularise noise towards white noise by gradient steps on L_pair and L_KL.

    The defaults are the settings of the paper, with an additional limit of the step length.

    Attributes:
        rounds: number of rounds, each with steps on both losses.
        rolls: gradient steps on L_pair per round, each with the weight pair / rolls.
        pair: weight of L_pair.
        kl: weight of L_KL.
        gain: factor of the average pooling in the pyramid; 2 keeps the variance of white noise.
        longest: maximum length of a gradient step, as a fraction of the norm of the noise of the row; infinity for no
            limit.
        per_channel: whether d is drawn as in the authors' code: per channel, equal for both axes, from 1 to S / 2 - 1
            with the height S of the level. Otherwise d is drawn per axis, from 1 to S / 2, equal for all channels.
    """

    rounds: int = 5
    rolls: int = 5
    pair: float = 20.0
    kl: float = 20.0
    gain: float = 2.0
    longest: float = LONGEST
    per_channel: bool = False

    def __call__(self, noise: Float[Tensor, "b c h w"], seeds: Sequence[int], t: int) -> Float[Tensor, "b c h w"]:
        """Return the regularised noise, float64 (float32 on MPS).

        Args:
            noise: the predicted noise.
            seeds: one per row; the shifts d are a function of (seed, t).
            t: the timestep.
        """
        n = to_float64(noise)
        shifts = iter(self.shifts(n.shape[1:], seeds, t).to(n.device))
        for _ in range(self.rounds):
            for _ in range(self.rolls):
                n = self._step(n, lambda n: pairwise(n, next(shifts), self.gain), self.pair / self.rolls)
            n = self._step(n, divergence, self.kl)
        return n

    def shifts(self, shape: Sequence[int], seeds: Sequence[int], t: int) -> Int[Tensor, "draws levels 2 *c b"]:
        """Draw a random shift d for every gradient step on L_pair, pyramid level, axis (y, x), channel and row.

        Args:
            shape: (c, h, w) of the noise; (h, w) without `per_channel`.
            seeds: one per row.
            t: the timestep.

        Returns:
            Without `per_channel`, one shift for all channels, [draws, levels, 2, b].
        """
        sizes = _sizes(*shape[-2:])
        if self.per_channel:
            most = torch.tensor([max(height // 2 - 1, 1) for height, _ in sizes])[:, None, None].expand(-1, 1, shape[0])
        else:
            most = torch.tensor([[height // 2, width // 2] for height, width in sizes])
        drawn = (self.rounds * self.rolls, *most.shape)
        found = [torch.rand(drawn, generator=stream(seed, 0, t, "autocorrelation")) * most for seed in seeds]
        shifts = torch.stack(found, dim=-1).long() + 1
        return shifts.expand(-1, -1, 2, *shifts.shape[3:])

    def _step(self, n: Tensor, loss: Callable[[Tensor], Tensor], rate: float) -> Tensor:
        """One gradient step n - s w grad L(n); s <= 1 limits its length per row to at most `longest` |n|."""
        with torch.enable_grad():
            n = n.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(n).sum(), n)
        step, n = rate * gradient, n.detach()
        if math.isinf(self.longest):
            return n - step
        length, most = (each.square().sum(dim=(1, 2, 3), keepdim=True).sqrt() for each in (step, self.longest * n))
        return n - step * (most / length.clamp_min(1e-12)).clamp_max(1.0)


OFFICIAL = Regulariser(gain=1.0, longest=math.inf, per_channel=True)
"""The regularisation of the public code: average pooling without a factor, and no limit of the step length."""


def pairwise(
    noise: Float[Tensor, "b c h w"], shifts: Int[Tensor, "levels 2 *c b"], gain: float = 2.0
) -> Float[Tensor, " b"]:
    """Compute L_pair of every row for given shifts d: one per level, axis (y, x), channel (or one for all) and row."""
    loss = noise.new_zeros(len(noise))
    for level, of_level in zip(_pyramid(noise, gain), shifts, strict=True):
        for axis, shift in zip((2, 3), of_level, strict=True):
            correlation = (level * rolled(level, shift, axis)).mean(dim=(2, 3))
            loss = loss + correlation.square().sum(dim=1)
    return loss


def divergence(noise: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Compute L_KL of every row: 2 KL(N(mu, var) || N(0, 1)) with the mean and variance of the row."""
    mu, var = noise.mean(dim=(1, 2, 3)), noise.var(dim=(1, 2, 3))
    return var + mu.square() - 1 - (var + 1e-7).log()  # finite for constant noise, var = 0


def rolled(x: Float[Tensor, "b c h w"], shift: Int[Tensor, "*c b"], axis: int) -> Float[Tensor, "b c h w"]:
    """`torch.roll` along axis 2 or 3, with one shift per row, or per channel and row."""
    side, by_row = x.shape[axis], shift.T if shift.ndim == 2 else shift[:, None]
    index = (torch.arange(side, device=x.device) - by_row[..., None]) % side
    return x.take_along_dim(index[..., None] if axis == 2 else index[..., None, :], axis)


def invert_regularised(
    guided: Guided,
    x0: Float[Tensor, "b c h w"],
    condition: Condition,
    *,
    steps: int,
    seeds: Sequence[int],
    exact: bool = False,
    regulariser: Regulariser | None = None,
) -> Generator[StepEnd, None, Inversion]:
    """Regularised DDIM inversion: yield every step, from x_0 upwards, and return the `Inversion`.

    Args:
        guided: the network with the guidance of the source prompt, one row per image.
        x0: clean latents; all latents of the run are stored in float64.
        condition: condition of the source prompt, one row per image.
        steps: number of steps of the run; the noise is regularised in every step.
        seeds: one per image.
        exact: store the residual x_{t-1} - mu_t(x_t) of every step as its noise map, which needs an additional
            evaluation per step. A replay under the source prompt then ends at x_0 (Ju et al., arXiv 2310.01506). Not
            part of pix2pix-zero.
        regulariser: the regularisation; by default with the settings of the paper.

    Raises:
        BadInput: as `invert_ddim`.
        NonFinite: the network returned NaN or infinity.
    """
    network = Regularised(guided.network, guided.terms, tuple(seeds), regulariser or Regulariser())
    levels = [to_float64(x0)]
    maps: list[Tensor] = []
    timesteps: list[int] = []
    for state in invert_ddim(network, x0, condition, steps=steps, seeds=seeds):
        levels.insert(0, state.x_t)
        timesteps.insert(0, state.t)
        if exact:
            maps.insert(0, _residual(guided, state))
        yield state
    z = torch.stack(maps) if exact else None
    return Inversion("regularised", torch.stack(levels), z, tuple(timesteps), 0.0, guided.guidance_scale, tuple(seeds))


@dataclass(frozen=True, eq=False)
class Regularised(Guided):
    """Guidance followed by regularisation of the noise, passed to `invert_ddim` as the network.

    Attributes:
        seeds: one per row.
        regulariser: regularises the guided noise.
    """

    seeds: tuple[int, ...]
    regulariser: Regulariser

    def predict(
        self,
        x: Float[Tensor, "b c h w"],
        t: int | Tensor,
        cond: Condition,
        taps: Sequence[NetworkTap] | None = None,
        known: Mapping[str, Float[Tensor, "b c h w"]] | None = None,
        apart: Sequence[str] = (),
    ) -> Float[Tensor, "b c h w"]:
        """Predict the guided and regularised noise; where abar_t = 0, the velocity, which is not regularised."""
        eps = super().predict(x, t, cond, taps, known, apart)
        return self.regulariser(eps, self.seeds, int(t)) if self.schedule.abar(int(t)) > 0 else eps


@torch.no_grad()
def _residual(guided: Guided, state: StepEnd) -> Float[Tensor, "b c h w"]:
    """The residual z_t = x_{t-1} - mu_t(x_t) of the deterministic step, with sigma_t = 0."""
    eps = guided.predict(state.x_t, state.t, state.condition)
    check_finite(eps, "the predicted noise", state.i, state.steps, state.t)
    return noise_map(state.x_prev, mean(state.x_t, eps, eps, state.abar, state.abar_prev, 0.0), 0.0)


def _pyramid(noise: Tensor, gain: float) -> Iterator[Tensor]:
    """The levels n_0, n_1, ... of the pyramid, from fine to coarse."""
    yield noise
    for _ in _sizes(*noise.shape[-2:])[1:]:
        noise = gain * F.avg_pool2d(noise, 2)
        yield noise


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of every pyramid level."""
    sizes = [(height, width)]
    while min(sizes[-1]) > COARSEST:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes
