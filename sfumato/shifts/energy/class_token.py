"""Semantics of an image: the class token of a vision transformer (DiffuseIT, arXiv 2209.15264, section 3.3).

    L_cls = mean (c_t - c_target)^2          towards a target image
    L_div = -mean (c_t - c_previous)^2       away from the previous prediction

c_t is the class token of P_t after the last layer. The mean is over its channels, as in the authors' code.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.shifts.energy.prediction import DecodedPrediction, Loss


@dataclass(frozen=True, eq=False)
class TargetClassToken:
    """L_cls, for one target image.

    Attributes:
        target: its class token, [1,d], or one per image, [b,d].
    """

    target: Float[Tensor, "#b d"]

    def against(self, source: DecodedPrediction) -> Loss:
        """The loss of one run; the source is not read."""
        return lambda image: distance(image.features.class_token, self.target)


@dataclass(frozen=True)
class SemanticDivergence:
    """L_div: every prediction differs from the one of the step before, the first one from the source image.

    Attributes:
        above: acts at timesteps above this one only; 0 at later steps.
    """

    above: int

    def against(self, source: DecodedPrediction) -> Loss:
        """The loss of one run, which keeps the class token of the step before."""
        previous = latest = source.features.class_token
        step: tuple[int, int] | None = None

        def loss(image: DecodedPrediction) -> Float[Tensor, " b"]:
            nonlocal previous, latest, step
            if (image.t, image.visit) != step:  # refinements evaluate a step several times
                previous, step = latest, (image.t, image.visit)
            latest = image.features.class_token.detach()
            return -distance(image.features.class_token, previous) * float(image.t > self.above)

        return loss


def distance(a: Float[Tensor, "b d"], b: Float[Tensor, "#b d"]) -> Float[Tensor, " b"]:
    """Mean square of the difference."""
    return (a - b).square().mean(dim=1)
