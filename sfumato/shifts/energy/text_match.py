"""Similarity of an image to texts in the embedding space of a dual encoder (CLIP), for text guidance.

    L_text = -mean_n cos(E_I(crop_n(P_t)), v),    v = E_T(target) - 0.4 E_T(source) + 0.2 E_I(x_source)
    L_dir  = 1 - mean_n cos(E_I(crop_n(P_t)) - E_I(x_source), E_T(target) - E_T(source))

L_text is the source-to-target loss of DiffuseIT (Kwon and Ye, arXiv 2209.15264, section 3.3) with the factors of the
authors' code. L_dir is the directional loss of StyleGAN-NADA (Gal et al., arXiv 2108.00946, eq. 2). All features are
unit vectors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.shifts.energy.crops import random_crops
from sfumato.shifts.energy.prediction import DecodedPrediction, Loss

SOURCE_TEXT = 0.4
"""Weight of the source text, which is subtracted in v."""
SOURCE_IMAGE = 0.2
"""Weight of the source image, which is added in v."""

Embed: TypeAlias = Callable[[Float[Tensor, "n 3 s s"]], Float[Tensor, "n d"]]
"""Differentiable function that computes unit features of pixels in about [-1, 1], of the encoder's input size."""


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """An image encoder for complete images and for random crops; losses with the same encoder share its features.

    Attributes:
        embed: computes the features.
        side: height and width of its input in pixels.
        count: number of crops per image.
        seeds: one per image.
    """

    embed: Embed
    side: int
    count: int
    seeds: Sequence[int]

    def of_image(self, image: DecodedPrediction) -> Float[Tensor, "b d"]:
        """Return the features of the complete images."""
        return image.shared((self, "image"), lambda: self.embed(self._resized(image)))

    def crops(self, image: DecodedPrediction) -> Float[Tensor, "b n d"]:
        """Return the features of random crops of every image, which are encoded in one batch."""
        return image.shared((self, "crops"), lambda: self._crops(image))

    def _crops(self, image: DecodedPrediction) -> Float[Tensor, "b n d"]:
        cut = random_crops(self._resized(image), self.count, self.seeds, image.t, image.visit)
        return self.embed(cut).unflatten(0, (-1, self.count))

    def _resized(self, image: DecodedPrediction) -> Float[Tensor, "b 3 s s"]:
        size = (self.side, self.side)
        if tuple(image.seen.shape[-2:]) == size:
            return image.seen
        return F.interpolate(image.seen, size, mode="bicubic", antialias=True, align_corners=False)


@dataclass(frozen=True, eq=False)
class TextMatch:
    """L_text, see the module docstring.

    Attributes:
        encoder: the image encoder.
        target: features of the target texts; 0 for an image without a target text, whose loss is then 0.
        source: features of the source texts; 0 for an image without a source text.
    """

    encoder: ImageEncoder
    target: Float[Tensor, "#b d"]
    source: Float[Tensor, "#b d"]

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run."""
        v = self.target - SOURCE_TEXT * self.source + SOURCE_IMAGE * self.encoder.of_image(source)
        v = v * self.target.any(dim=-1, keepdim=True)
        return lambda image: -F.cosine_similarity(self.encoder.crops(image), v[:, None], dim=-1).mean(dim=1)


@dataclass(frozen=True, eq=False)
class TextDirectionMatch:
    """L_dir, see the module docstring.

    Attributes:
        encoder: the image encoder.
        target: features of the target texts.
        source: features of the source texts, which must differ from those of the target texts.
    """

    encoder: ImageEncoder
    target: Float[Tensor, "#b d"]
    source: Float[Tensor, "#b d"]

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run."""
        before, wanted = self.encoder.of_image(source)[:, None], (self.target - self.source)[:, None]
        return lambda image: 1 - F.cosine_similarity(self.encoder.crops(image) - before, wanted, dim=-1).mean(dim=1)
