"""Pixel losses: values outside the range of an image, and the distance to a target image."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.shifts.energy.prediction import DecodedPrediction, Loss


@dataclass(frozen=True)
class RangeLoss:
    """Mean squared distance of pixels to [-1, 1] (Crowson's range loss, used in DiffuseIT, arXiv 2209.15264)."""

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run; the source is not used."""
        return lambda image: out_of_range(image.pixels)


@dataclass(frozen=True, eq=False)
class TargetPixels:
    """Mean squared distance to a target image (the term with the weight lambda_mse in DiffuseIT).

    Attributes:
        target: the target image in [-1, 1], with the size of the edited images.
    """

    target: Float[Tensor, "1 3 height width"]

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run; the source is not used."""
        return lambda image: (image.seen - self.target).square().mean(dim=(1, 2, 3))


def out_of_range(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Compute mean (x - clip(x, -1, 1))^2 of every image."""
    return (pixels - pixels.clamp(-1, 1)).square().mean(dim=(1, 2, 3))
