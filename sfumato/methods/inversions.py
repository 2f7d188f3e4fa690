"""For methods that work along any inversion: the inversion as one of their parameters."""

from dataclasses import dataclass

from sfumato.errors import BadInput
from sfumato.methods.params import Params, option

EVERY = ("edit-friendly", "ddim", "native-ddpm", "regularised")
"""Inversions with latents of the picture at every step."""
DETERMINISTIC = ("ddim", "regularised")


def _deterministic(value: float) -> dict[str, float]:
    """A default after these."""
    return dict.fromkeys(DETERMINISTIC, value)


@dataclass(frozen=True)
class InversionParams(Params):
    """What the inversions need, and where the replay starts, as in the edit-friendly paper; usual settings for DDIM."""

    inversion: str = option("edit-friendly", "how the picture is inverted", stage="invert", choices=EVERY)
    steps: int = option(100, "number of steps of the run", stage="invert", low=1, high=1000, after=_deterministic(50))
    eta: float = option(
        1.0,
        "share of the DDPM noise in every step; 0 for ddim and regularised, above 0 for the others",
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
        "evaluate one timestep at a time, as the replay does (ddim always does): maps bring x_0 back to one rounding; "
        "regularised keeps what its replay would miss; an edit evaluates the source so, too; slower",
        stage="invert",
    )
    refine: int = option(
        0, "fixed-point iterations per step of ddim: a more exact inversion", stage="invert", low=0, high=100
    )
    skip: int = option(
        12,
        "steps at the noisy end that the edit leaves out; more keeps more of the picture",
        stage="edit",
        low=0,
        high=999,
        after=_deterministic(0),
    )
    guidance_scale: float = option(
        9.0, "guidance scale of the target prompt", stage="edit", low=0, high=100, after=_deterministic(7.5)
    )

    def check(self) -> None:
        """Refuse values out of range, and those that the chosen inversion has no use for. Raises BadInput."""
        super().check()
        if (self.inversion in DETERMINISTIC) != (self.eta == 0):
            raise BadInput(
                "eta must be 0 for the inversion ddim, 0 for regularised and above 0 for the others, "
                f"not {self.eta:g} for {self.inversion}."
            )
        if self.refine and self.inversion != "ddim":
            raise BadInput(f"refine must be 0 for the inversion {self.inversion}: only ddim takes it.")
