"""DDIM inversion whose noise is held to what noise is: regularised inversion of pix2pix-zero (arXiv 2302.03027, 3.2).

Noise that is predicted on the way up from a picture keeps traces of it; edits then start from something that is no
noise. After every evaluation eps is moved by gradient steps of two losses, with n_0 = eps and n_p its pyramid:

    L_pair = sum_p sum_c (mean_xy n_p roll_x(n_p, d))^2 + (mean_xy n_p roll_y(n_p, d))^2
    L_KL   = var + mu^2 - 1 - log var

The pyramid averages 2 x 2 cells, times 2 to keep the variance, down to a side of 8. The paper sums over all shifts d;
as in the authors' code every gradient step draws some at random, here from (seed, t). The rolls are circular, where d
and S - d are one, so 1 to S / 2 are all there are. The losses are of fourth order in the noise, so that steps of a
fixed weight diverge on what is far from noise; a step is therefore at most a tenth of the noise, which leaves
predictions near N(0, 1) to the paper's weights.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.noise import stream
from sfumato.core.state import StepEnd, check_finite
from sfumato.core.step import mean, noise_map, wide
from sfumato.inversion.artifact import Inversion
from sfumato.inversion.ddim import invert_ddim
from sfumato.inversion.registry import inversion

COARSEST = 8
"""Side at which the pyramid ends."""
LONGEST = 0.1
"""Largest step of the descent, as a share of the norm of a row."""


@dataclass(frozen=True)
class Regulariser:
    """Moves noise towards white noise; the defaults are the paper's.

    Attributes:
        rounds: how often both losses are descended on.
        rolls: gradient steps on L_pair in a round, which share its weight.
        pair: weight of L_pair.
        kl: weight of L_KL.
        nearest: smallest shift; 0 lets a roll compare every pixel with itself.
        gain: factor of every level over the one below; 2 keeps the variance of white noise.
    """

    rounds: int = 5
    rolls: int = 5
    pair: float = 20.0
    kl: float = 20.0
    nearest: int = 1
    gain: float = 2.0

    def __call__(self, noise: Float[Tensor, "b c h w"], seeds: Sequence[int], t: int) -> Float[Tensor, "b c h w"]:
        """The moved noise, float64; shifts are a function of (seed, t), one seed per row."""
        n = wide(noise)
        shifts = iter(self.shifts(n.shape[-2:], seeds, t).to(n.device))
        for _ in range(self.rounds):
            for _ in range(self.rolls):
                n = _descended(n, lambda n: pairwise(n, next(shifts), self.gain), self.pair / self.rolls)
            n = _descended(n, divergence, self.kl)
        return n

    def shifts(self, size: Sequence[int], seeds: Sequence[int], t: int) -> Int[Tensor, "draws levels 2 b"]:
        """A shift for every gradient step on L_pair, level, axis and row."""
        halves = torch.tensor([[height // 2, width // 2] for height, width in _sizes(*size)])
        shape = (self.rounds * self.rolls, *halves.shape)
        drawn = [torch.rand(shape, generator=stream(seed, 0, t, "autocorrelation")) * halves for seed in seeds]
        return torch.stack(drawn, dim=-1).long() + self.nearest


OFFICIAL = Regulariser(nearest=0, gain=1.0)
"""As the public code does it: a roll by zero punishes the variance itself, coarse levels count little."""


def pairwise(
    noise: Float[Tensor, "b c h w"], shifts: Int[Tensor, "levels 2 b"], gain: float = 2.0
) -> Float[Tensor, " b"]:
    """L_pair of every row for given shifts, one per level, axis (y, x) and row."""
    loss = noise.new_zeros(len(noise))
    for level, of_level in zip(_pyramid(noise, gain), shifts, strict=True):
        for axis, shift in zip((2, 3), of_level, strict=True):
            correlation = (level * rolled(level, shift, axis)).mean(dim=(2, 3))
            loss = loss + correlation.square().sum(dim=1)
    return loss


def divergence(noise: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """L_KL of every row: twice the divergence of a normal distribution of its mean and variance from N(0, 1)."""
    mu, var = noise.mean(dim=(1, 2, 3)), noise.var(dim=(1, 2, 3))
    return var + mu.square() - 1 - (var + 1e-7).log()  # constant noise has no variance


def rolled(x: Float[Tensor, "b c h w"], shift: Int[Tensor, " b"], axis: int) -> Float[Tensor, "b c h w"]:
    """`torch.roll` along axis 2 or 3, every row by its own shift."""
    side = x.shape[axis]
    index = (torch.arange(side, device=x.device) - shift[:, None]) % side
    return x.take_along_dim(index[:, None, :, None] if axis == 2 else index[:, None, None, :], axis)


def invert_regularised(
    guided: Guided,
    x0: Float[Tensor, "b c h w"],
    condition: Any,
    *,
    steps: int,
    seeds: Sequence[int],
    exact: bool = False,
    regulariser: Regulariser | None = None,
) -> Generator[StepEnd, None, Inversion]:
    """Yield every step from x_0 upwards; return the `Inversion`.

    Args:
        guided: the network under the guidance of the source prompt, one row per image.
        x0: clean latents; the run is kept in float64.
        condition: the source prompt, one row per image.
        steps: number of steps of the run; the noise is regularised in each.
        seeds: one per image.
        exact: keep what the deterministic replay misses at every step as its noise map, at one more evaluation: the
            replay under the source prompt ends at x_0 (Ju et al., arXiv 2310.01506). The paper does without.
        regulariser: the paper's by default.

    Raises:
        NonFinite: the network returned NaN or infinity.
    """
    network = _Regularised(guided.network, guided.terms, tuple(seeds), regulariser or Regulariser())
    levels = [wide(x0)]
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
class _Regularised(Guided):
    """Guidance whose noise is regularised: what `invert_ddim` ascends with."""

    seeds: tuple[int, ...]
    regulariser: Regulariser

    def predict(
        self, x: Float[Tensor, "b c h w"], t: int | Tensor, cond: Any, taps: Any = None, known: Any = None
    ) -> Float[Tensor, "b c h w"]:
        """The moved noise."""
        return self.regulariser(super().predict(x, t, cond, taps, known), self.seeds, int(t))


@torch.no_grad()
def _residual(guided: Guided, state: StepEnd) -> Float[Tensor, "b c h w"]:
    """z_t of the deterministic step from x_t to x_{t-1}."""
    eps = guided.predict(state.x_t, state.t, state.condition)
    check_finite(eps, "the predicted noise", state.i, state.steps, state.t)
    return noise_map(state.x_prev, mean(state.x_t, eps, eps, state.abar, state.abar_prev, 0.0), 0.0)


def _descended(n: Tensor, loss: Callable[[Tensor], Tensor], rate: float) -> Tensor:
    """One gradient step, at most `LONGEST`; rows do not know each other."""
    with torch.enable_grad():
        n = n.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(n).sum(), n)
    step, n = rate * gradient, n.detach()
    length, most = (each.square().sum(dim=(1, 2, 3), keepdim=True).sqrt() for each in (step, LONGEST * n))
    return n - step * (most / length.clamp_min(1e-12)).clamp_max(1.0)


def _pyramid(noise: Tensor, gain: float) -> Iterator[Tensor]:
    """The noise, and ever coarser averages of it."""
    yield noise
    for _ in _sizes(*noise.shape[-2:])[1:]:
        noise = gain * F.avg_pool2d(noise, 2)
        yield noise


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the pyramid's levels."""
    sizes = [(height, width)]
    while min(sizes[-1]) > COARSEST:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


@inversion("regularised", summary="DDIM inversion with the noise kept white (pix2pix-zero)", deterministic=True)
def _by_name(
    guided: Guided, x0: Tensor, condition: Condition, params: Any, *, seeds: Sequence[int], batch: int | None
) -> Generator[StepEnd, None, Inversion]:
    regulariser = OFFICIAL if getattr(params, "compat", "") == "official" else Regulariser()
    options = {"steps": params.steps, "exact": params.exact, "regulariser": regulariser}
    return (yield from invert_regularised(guided, x0, condition, **options, seeds=seeds))
