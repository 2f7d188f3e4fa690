"""Losses of the class token of a vision transformer (DiffuseIT, arXiv 2209.15264, section 3.3).

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
    """L_cls: distance to the class token of a target image.

    Attributes:
        target: class token of the target image, [1,d], or one per image, [b,d].
    """

    target: Float[Tensor, "#b d"]

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run; the source is not used."""
        return lambda image: distance(image.features.class_token, self.target)


@dataclass(frozen=True)
class SemanticDivergence:
    """L_div: negative distance to the prediction of the previous step; in the first step, to the source image.

    Attributes:
        above: the loss is used at timesteps above this one; it is 0 at lower timesteps.
    """

    above: int

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run, which stores the class token of the previous step."""
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
    """Compute the mean squared difference per row."""
    return (a - b).square().mean(dim=1)
