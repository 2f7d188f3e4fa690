"""Parameters of pullback (Park et al., arXiv 2302.12469): directions, step of x_t, dimension of tangent spaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sfumato.errors import BadInput
from sfumato.formats import DIRECTIONS
from sfumato.mixtures import is_number, parse_weights
from sfumato.options.inversions import DDIMParams
from sfumato.options.option import option
from sfumato.options.params import PromptPair

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.geometry import Directions
    from sfumato.geometry.jacobian import Pool
    from sfumato.models.diffusion_model import DiffusionModel

RANK = 50
"""Default dimension of the tangent spaces, as in the paper; limited by the rank of the bottleneck."""
MOST = 100_000
"""Upper limit of dimensions and rows; larger values are rejected as probable typing errors."""


@dataclass(frozen=True)
class PullbackParams(DDIMParams):
    """The paper's settings: no guidance, kappa = 0.99, tangent spaces of dimension 50."""

    guidance_scale: float = option(1.0, "guidance scale of the target prompt", stage="edit", low=0, high=100)
    direction: str = option(
        "1",
        'direction by number (1 changes the bottleneck most) or name, or a weighted sum: "1=1,3=-0.5"',
        stage="edit",
    )
    directions: str = option(
        "", "file from `sfumato directions find`; by default the image's own local directions", stage="edit"
    )
    kind: str = option(
        "pullback",
        "random: along a random direction, for comparison",
        stage="edit",
        choices=("pullback", "random"),
    )
    gamma: float = option(
        8.0,
        "length of a step of x_t; negative values move in the opposite direction",
        stage="edit",
        low=-1000,
        high=1000,
    )
    shots: int = option(1, "number of steps of geodesic shooting", stage="edit", low=1, high=1000)
    time: float = option(
        1.0,
        "fraction of the run that remains when x_t is changed: 1 changes coarse structure, 0.25 details",
        stage="edit",
        low=0,
        high=1,
    )
    rank: int = option(
        0,
        f"dimension of the tangent spaces, for several shots or a file of directions; 0 for {RANK}, or the rank of the "
        "bottleneck if less",
        stage="edit",
        low=0,
        high=MOST,
    )
    keep_positions: bool = option(
        False, "use the bottleneck at every position instead of its sum over the positions", stage="edit"
    )
    normalise: bool = option(
        True, "restore mean and standard deviation of the predicted x_0 after the move", stage="edit"
    )
    kappa: float = option(0.99, "kappa of the normalisation (section 3.4)", stage="edit", low=0, high=0.9999)
    boost: float = option(
        0.0,
        "quality boosting: fraction of the run, at its end, with fresh noise (eta = 1)",
        stage="edit",
        low=0,
        high=1,
    )
    chunk: int = option(
        16, "maximum number of rows in one pass of the Jacobian; bounds its memory", stage="edit", low=1, high=MOST
    )

    @property
    def keeps_prompt(self) -> bool:
        """True, as a target prompt is optional."""
        return True

    def check(self) -> None:
        """Check value ranges, and that the options do not contradict each other. Raises BadInput."""
        super().check()
        weights = parse_weights(self.direction)
        if self.directions and self.kind == "random":
            raise BadInput("kind random draws its directions from the seed: leave the file of directions out.")
        if self.rank and self.kind == "random":
            raise BadInput(
                "rank is the dimension of tangent spaces, which random directions do not use: leave rank or kind out."
            )
        if not self.normalise and self.kappa != PullbackParams.kappa:
            raise BadInput("kappa belongs to the normalisation, which is off: leave kappa out.")
        if not self.directions:
            _numbered(weights, self.rank or MOST)

    def notes(self, prompts: Sequence[tuple[str, str]]) -> list[str]:
        """Note a `rank` without effect, and a `time` at which the step is skipped.

        A single step along local directions computes only the named directions, so it has no rank.
        """
        notes = []
        if self.rank and self.shots == 1 and not self.directions:
            notes.append("rank had no effect: it is for several shots, or for a file of directions.")
        if (step := edited_step(self)) != _step_at(self):
            notes.append(
                f"x_t was changed at step {step + 1} of {self.steps}, not at time {self.time:g}, because the steps "
                "before it are skipped."
            )
        return notes

    @cached_property
    def saved(self) -> Directions | None:
        """The directions from the file, read once; None for local directions of the image. Raises BadInput."""
        from sfumato.geometry import Directions

        return Directions.load(self.directions) if self.directions else None

    @property
    def files(self) -> Sequence[str]:
        """Path of the file of directions."""
        return [self.directions] if self.directions else []

    def check_headers(self) -> None:
        """Read the header of the file of directions. Raises BadInput."""
        if self.directions:
            DIRECTIONS.check(self.directions)

    def check_files(self) -> None:
        """Check that the file contains the named directions and fits `keep_positions`. Raises BadInput."""
        if self.saved is None:
            return
        self.saved.mix(parse_weights(self.direction))
        if self.keep_positions and self.saved.pool == "sum":
            raise BadInput(
                "keep_positions does not fit these directions, which are of the bottleneck summed over its positions: "
                "leave it out."
            )

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check the directions against the model, timestep and size, and the rank. Raises BadInput."""
        import torch

        from sfumato.geometry.normalise import gain

        t = network.schedule.timesteps(self.steps)[edited_step(self)]
        if self.normalise:
            gain(network.schedule.abar(t), self.kappa)
        planned(network, self, t, torch.empty(1, network.latent_channels, *size, device="meta"))


def edited_step(params: PullbackParams) -> int:
    """Return the index of the edited step: at which the fraction `time` of the run remains, but at least `skip`."""
    return max(_step_at(params), params.skip)


def _step_at(params: PullbackParams) -> int:
    """Index of the step at which the fraction `time` of the run remains."""
    return min(round((1 - params.time) * params.steps), params.steps - 1)


@dataclass(frozen=True, eq=False)
class Plan:
    """The directions of an edit and the dimension of its tangent spaces.

    Attributes:
        saved: directions from a file, or None for local or random directions.
        weights: weights of saved directions by name or number.
        numbers: weights of local or random directions by number.
        pool: "sum" over the positions of the bottleneck, or None for every position.
        rank: dimension of the tangent spaces; not used for random directions.
    """

    saved: Directions | None
    weights: dict[str, float]
    numbers: dict[int, float]
    pool: Pool
    rank: int


def planned(network: DiffusionModel, params: PullbackParams, t: int, x: Tensor) -> Plan:
    """Return the plan for timestep t and latents of the shape of x, [b,c,h,w]; the network is not evaluated.

    Raises:
        BadInput: saved directions belong to another model, timestep or size, the rank exceeds that of the bottleneck,
            or the gradient checkpointing of the network is on.
    """
    from sfumato.geometry import BottleneckMap
    from sfumato.geometry.basis import check_n, largest_rank

    saved = params.saved
    if saved is not None:
        saved.check_fits(network, t, x.shape[1:])
    pool: Pool = saved.pool if saved is not None else None if params.keep_positions else "sum"
    weights = parse_weights(params.direction)
    numbers = _numbered(weights, MOST) if saved is None else {}
    f = BottleneckMap(network, t, None, pool, params.chunk)
    rank = 1
    if params.kind == "pullback":
        rank = params.rank or max([*numbers, min(RANK, largest_rank(f, x))])
        check_n(f, x, rank, "rank" if params.rank else "direction")
    return Plan(saved, weights, numbers, pool, rank)


def _numbered(weights: dict[str, float], most: int) -> dict[int, float]:
    """Weights by number. Raises BadInput for names, numbers beyond `most`, and one number in two spellings."""
    numbers: dict[int, float] = {}
    for name, weight in weights.items():
        if not is_number(name) or not 1 <= int(name) <= most:
            raise BadInput(
                f'direction must be a number between 1 and the rank, not "{name}"; names need a file of directions.'
            )
        if int(name) in numbers:
            raise BadInput(f"direction names number {int(name)} twice: give it one weight.")
        numbers[int(name)] = weight
    return numbers
