"""Colour manipulation in the noise maps (Huberman-Spiegelglas et al., arXiv 2304.06140, section 2.2, eq. 7).

    z_t  <-  z_t + s B (M - P(f_t(x_t))),   t in [T_1, T_2]

M is an image in the target colour, encoded as a latent, and P(f_t(x_t)) = P_t is the prediction of x_0. The bracket is
therefore the remaining difference from M, and P_t approaches M inside B. All steps outside of the window use the
unchanged noise maps of the source.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.schedule import FINISHED
from sfumato.core.shift import PLACES, Shift
from sfumato.core.state import StepMean
from sfumato.errors import BadInput
from sfumato.images.recolour import recolour

PRESENT = 0.05
"""Minimum share of the main colour in a pixel for which it belongs to B."""


class Autoencoder(Protocol):
    """Protocol of the autoencoder of a model."""

    @property
    def factor(self) -> int:
        """Downsampling factor: pixels per latent position along each axis."""

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Encode images in [-1, 1] to latents."""

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Decode latents to images in about [-1, 1]."""


@dataclass(frozen=True, eq=False)
class TowardsColour(Shift):
    """Change z_t towards a target colour within a window of timesteps.

    Attributes:
        colour: M, an image in the target colour as a latent.
        amount: s.
        inside: B, 1 where the colour is changed, at the resolution of the latents.
        window: (T_1, T_2) with T_1 <= T_2, both included, in training timesteps.
    """

    colour: Float[Tensor, "#b c h w"]
    amount: float
    inside: Float[Tensor, "#b 1 h w"]
    window: tuple[int, int]

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """Return z_t + s B (M - P_t), eq. 7; unchanged outside the window and in steps with sigma_t = 0."""
        first, last = self.window
        if state.sigma == 0 or not first <= state.t <= last:
            return z
        missing = self.amount * self.inside * (self.colour - state.x0_prediction)
        return missing if z is None else z + missing


class Recolour(Shift):
    """Eq. 7 with M and B computed from the source: its main colour is replaced, its shading is preserved.

    M is x_0 + E(x') - E(D(x_0)), where E and D are the encoder and the decoder, and x' is D(x_0) with the target colour
    in place of the main colour (`sfumato.images.recolour`). B is 1 for latent positions with pixels of the main colour
    and for their neighbours, which are in the receptive field of the decoder.

    Attributes:
        autoencoder: encodes and decodes latents; evaluated once per image, in the first step of a run.
        colour: the target colour, sRGB in [-1, 1], [3].
        amount: s.
        window: (T_1, T_2), as for `TowardsColour`.
        flat: whether M is an image of a single colour, as in the paper, and B the share of the main colour in the
            pixels of every latent position.
        inside: where the edit applies, [b,1,h,w]; None for everywhere.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        colour: Float[Tensor, " 3"],
        amount: float,
        window: tuple[int, int],
        *,
        flat: bool = False,
        inside: Float[Tensor, "b 1 h w"] | None = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.colour = colour
        self.amount = amount
        self.window = window
        self.flat = flat
        self.inside = inside
        self._towards: TowardsColour | None = None

    def for_run(self) -> "Recolour":
        """Return a copy without the cached M and B."""
        return self._within(self.inside)

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """The positions of the source, for which M and B are computed."""
        return (PLACES,) if self.amount else ()

    def with_mask(self, inside: Float[Tensor, "b 1 h w"]) -> "Recolour":
        """Return a copy that computes the main colour from the pixels inside the mask."""
        return self._within(inside)

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """Return z_t + s B (M - P_t) in the window, z_t outside of it.

        Raises:
            BadInput: the run generates an image, so that there is no source.
        """
        if not state.source:
            raise BadInput("colour replaces the main colour of an inverted image: invert an image first.")
        if self._towards is None:
            rows = [self._target(x0, row) for row, x0 in enumerate(state.source[FINISHED].split(1))]
            colour, inside = (torch.cat(each) for each in zip(*rows, strict=True))
            self._towards = TowardsColour(colour, self.amount, inside, self.window)
        return self._towards.noise_map(state, z)

    def _within(self, inside: Tensor | None) -> "Recolour":
        return Recolour(self.autoencoder, self.colour, self.amount, self.window, flat=self.flat, inside=inside)

    def _target(
        self, x0: Float[Tensor, "1 c h w"], row: int
    ) -> tuple[Float[Tensor, "1 c h w"], Float[Tensor, "1 1 h w"]]:
        """M and B of one image."""
        before = self.autoencoder.decode(x0)
        found = recolour(before[0], self.colour.to(before), self._region(row))
        share, factor = found.share[None, None].to(x0), self.autoencoder.factor
        if self.flat:
            one = self.colour.to(before)[None, :, None, None].expand_as(before)
            return self.autoencoder.encode(one).to(x0), F.avg_pool2d(share, factor)
        both = self.autoencoder.encode(torch.cat([found.pixels[None], before])).to(x0)
        present = F.max_pool2d(share, factor) > PRESENT
        return x0 + both[:1] - both[1:], F.max_pool2d(present.to(x0), 3, stride=1, padding=1)

    def _region(self, row: int) -> Tensor | None:
        """The mask of one image in pixels, bool [h,w]; None if it is 1 everywhere."""
        if self.inside is None:
            return None
        cells = self.inside[row if len(self.inside) > 1 else 0, 0] > 0
        factor = self.autoencoder.factor
        return None if cells.all() else cells.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
