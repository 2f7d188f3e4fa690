"""Parameters of methods whose inversion is an option, and of methods that always use DDIM inversion."""

from dataclasses import dataclass

from sfumato.errors import BadInput
from sfumato.options.option import option, skip_option
from sfumato.options.params import Params

EVERY = ("edit-friendly", "ddim", "native-ddpm", "regularised")
"""Inversions that store a latent of the image for every step."""
DETERMINISTIC = ("ddim", "regularised")
"""Inversions with eta = 0, whose steps add no noise."""


def _deterministic(value: float) -> dict[str, float]:
    """The same default for all deterministic inversions."""
    return dict.fromkeys(DETERMINISTIC, value)


@dataclass(frozen=True)
class InversionParams(Params):
    """Options of the inversion and the replay.

    The defaults are those of the edit-friendly paper, or common settings for DDIM inversions.
    """

    inversion: str = option("edit-friendly", "name of the inversion", stage="invert", choices=EVERY)
    steps: int = option(100, "number of steps of the run", stage="invert", low=1, high=1000, after=_deterministic(50))
    eta: float = option(
        1.0,
        "noise added in every step, up to 1 (DDPM); 0 for ddim and regularised, above 0 for the others",
        stage="invert",
        low=0,
        high=1,
        after=_deterministic(0.0),
    )
    source_guidance_scale: float = option(
        3.5, "guidance scale of the source prompt", stage="invert", low=0, high=100, after=_deterministic(1.0)
    )
    exact: bool = option(
        False,
        "evaluate one timestep at a time, as the replay does (ddim always does): noise maps reconstruct x_0 up to one "
        "rounding error, regularised stores the error of its replay, edits evaluate the source step by step; slower",
        stage="invert",
    )
    refine: int = option(
        0, "fixed-point iterations per step of ddim, for a more exact inversion", stage="invert", low=0, high=100
    )
    skip: int = skip_option(12, after=_deterministic(0))
    guidance_scale: float = option(
        9.0, "guidance scale of the target prompt", stage="edit", low=0, high=100, after=_deterministic(7.5)
    )

    def check(self) -> None:
        """Check value ranges, and that the chosen inversion supports eta and refine. Raises BadInput."""
        super().check()
        if self.inversion in EVERY and (self.inversion in DETERMINISTIC) != (self.eta == 0):
            raise BadInput(
                "eta must be 0 for the inversions ddim and regularised and above 0 for the others, "
                f"not {self.eta:g} for {self.inversion}."
            )
        if self.refine and self.inversion != "ddim":
            raise BadInput(f"refine must be 0 for the inversion {self.inversion}: only ddim takes it.")


@dataclass(frozen=True)
class DeterministicParams(InversionParams):
    """The same options with defaults for a deterministic inversion, or those of the paper for edit-friendly maps."""

    inversion: str = option("ddim", "name of the inversion", stage="invert", choices=EVERY)
    steps: int = option(
        50, "number of steps of the run", stage="invert", low=1, high=1000, after={"edit-friendly": 100}
    )
    eta: float = option(
        0.0,
        "noise of a step: 0 for ddim and regularised",
        stage="invert",
        low=0,
        high=1,
        after={"edit-friendly": 1.0, "native-ddpm": 1.0},
    )
    source_guidance_scale: float = option(1.0, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    skip: int = skip_option(0, after={"edit-friendly": 12})


@dataclass(frozen=True)
class DDIMParams(Params):
    """Usual settings for Stable Diffusion: 50 steps, inversion without guidance."""

    steps: int = option(50, "number of steps of the run", stage="invert", low=1, high=1000)
    source_guidance_scale: float = option(1.0, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    refine: int = option(
        0, "fixed-point iterations per step, for a more exact inversion", stage="invert", low=0, high=100
    )
    skip: int = skip_option(0)
    guidance_scale: float = option(7.5, "guidance scale of the target prompt", stage="edit", low=0, high=100)
