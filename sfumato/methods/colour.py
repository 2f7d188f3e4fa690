"""Colour manipulation: replay under the source prompt with noise maps changed towards a target colour.

Huberman-Spiegelglas, Kulikov, Michaeli: "An Edit Friendly DDPM Noise Space: Inversion and Manipulations",
CVPR 2024, arXiv 2304.06140, section 2.2, eq. 7:

    z_t <- z_t + s B (M - P_t),   T_1 <= t <= T_2

P_t is the prediction of x_0. In the paper, M is an image of a single colour and B a painted mask. With a weight s that
is large enough to reach the colour, M then replaces all texture inside B or, without a mask, the whole image. Here M is
the source image with the target colour in place of its main colour and with unchanged shading
(`sfumato.images.recolour`), and B is 1 for latent positions whose pixels contain the main colour and for their
neighbours. If the edit has a mask, the main colour is computed from the pixels inside the mask, and only these change.
With `flat`, M is an image of a single colour as in the paper, and B is the share of the main colour in the pixels of
every latent position. Not implemented: an M with several colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.errors import BadInput
from sfumato.options.option import option, skip_option
from sfumato.options.params import Params, PromptPair

if TYPE_CHECKING:
    from sfumato.core.schedule import Schedule
    from sfumato.core.shift import Shift
    from sfumato.models.diffusion_model import DiffusionModel


@dataclass(frozen=True)
class ColourParams(Params):
    """Settings for Stable Diffusion. The edit uses the source prompt by default, so the guidance scales are equal."""

    steps: int = option(100, "number of steps of the run", stage="invert", low=1, high=1000)
    eta: float = option(1.0, "noise added in every step, from 0 (DDIM) to 1 (DDPM)", stage="invert", above=0, high=1)
    source_guidance_scale: float = option(3.5, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    exact: bool = option(
        False,
        "evaluate one timestep at a time, as the replay does: reconstructs x_0 up to one rounding error; slower",
        stage="invert",
    )
    skip: int = skip_option(0)
    guidance_scale: float = option(3.5, "guidance scale of the target prompt", stage="edit", low=0, high=100)
    colour: str = option("red", 'target colour in CSS notation: "red", "#3366cc", "hsl(120, 60%, 50%)"', stage="edit")
    amount: float = option(
        1.0,
        "s of eq. 7: how far each noise map moves towards the colour; small values give mixtures of the "
        "colours, 0 reconstructs the image",
        stage="edit",
        low=0,
        high=10,
    )
    flat: bool = option(
        False,
        "M is an image of one colour, as in the paper; this also replaces the shading unless amount is small",
        stage="edit",
    )
    first: int = option(100, "T_1: smallest timestep whose noise map is changed", stage="edit", low=0, high=999)
    last: int = option(700, "T_2: largest timestep whose noise map is changed", stage="edit", low=0, high=999)

    @property
    def keeps_prompt(self) -> bool:
        """True, as the edit uses the source prompt if no target prompt is given."""
        return True

    def check(self) -> None:
        """Check value ranges, first <= last, and that Pillow can parse the colour. Raises BadInput."""
        super().check()
        if self.first > self.last:
            raise BadInput(f"first = {self.first} is the smallest timestep, and must not exceed last = {self.last}.")
        rgb(self.colour)

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that the window [first, last] contains a timestep that adds noise. Raises BadInput."""
        moved = movable(network.schedule, self)
        if not any(self.first <= t <= self.last for t in moved):
            more = "skip fewer steps" if self.skip else "use more steps"
            there = f"the timesteps that add noise are {shortened(moved)}" if moved else more
            raise BadInput(
                f"No timestep of the edit that adds noise lies between first = {self.first} and last = {self.last}: "
                f"{there}."
            )


def movable(schedule: Schedule, params: ColourParams) -> list[int]:
    """Return the timesteps of the edit with sigma_t > 0, largest first; only their noise maps can be changed."""
    from sfumato.core.step import sigma

    timesteps = schedule.timesteps(params.steps)
    steps = list(zip(timesteps, schedule.previous(timesteps), strict=True))[params.skip :]
    return [t for t, after in steps if sigma(schedule.abar(t), schedule.abar(after), params.eta) > 0]


def shortened(numbers: Sequence[int]) -> str:
    """Format numbers for an error message; if there are more than ten, only the first five and the last four."""
    texts = [str(number) for number in numbers]
    return ", ".join(texts if len(texts) <= 10 else [*texts[:5], "...", *texts[-4:]])


def rgb(colour: str) -> tuple[int, int, int]:
    """Parse a colour in CSS notation to (red, green, blue), 0 to 255.

    Raises:
        BadInput: the text is not a colour, or one outside sRGB or with transparency.
    """
    from PIL import ImageColor

    try:
        red, green, blue, *alpha = ImageColor.getrgb(colour)
    except ValueError as error:
        raise BadInput(f'colour must be a name or a code such as "red" or "#3366cc", not {colour!r}.') from error
    if not all(0 <= level <= 255 for level in (red, green, blue)) or alpha not in ([], [255]):
        raise BadInput(f"colour must be an opaque colour with levels from 0 to 255 (0 % to 100 %), not {colour!r}.")
    return red, green, blue


@method(
    "colour",
    summary="colour manipulation in edit-friendly noise maps (CVPR 2024): replaces the main colour, keeps the shading",
    params=ColourParams,
    inversion="edit-friendly",
    accepts=("edit-friendly", "native-ddpm"),
    section="colour",
    handles=("noise map",),
)
def shifts(job: Job, params: ColourParams) -> list[Shift]:
    """Change every noise map of the window towards the source image with its main colour replaced."""
    import torch

    from sfumato.shifts.colour import Recolour

    wanted = torch.tensor(rgb(params.colour), dtype=torch.float32) / 127.5 - 1
    return [Recolour(job.network, wanted, params.amount, (params.first, params.last), flat=params.flat)]
