"""Losses of the decoded prediction P_t: all of them read one decoded image and one pass of each network.

    g = grad_{x_t} sum_k w_k L_k(D(P_t)),      P_t = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)

D is the decoder of the autoencoder, the identity for networks on pixels. DiffuseIT (Kwon and Ye, ICLR 2023, arXiv
2209.15264) and other methods of guidance by pretrained networks are such sums.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.energy import scaled_gradients
from sfumato.core.state import StepState
from sfumato.core.step import predict_x0
from sfumato.errors import BadInput
from sfumato.shifts.energy.term import Measurement


@dataclass(frozen=True, eq=False)
class Features:
    """Outputs of a vision transformer.

    Attributes:
        keys: keys of the last layer's self-attention for all tokens, [b,t,d].
        class_token: class token after the last layer, [b,d].
    """

    keys: Float[Tensor, "b t d"]
    class_token: Float[Tensor, "b d"]


Decode: TypeAlias = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b 3 height width"]]
"""Decodes latents to pixels in about [-1, 1], differentiably."""
Extract: TypeAlias = Callable[[Float[Tensor, "b 3 height width"]], Features]
"""Features of pixels in about [-1, 1], of any size, differentiably."""


class DecodedPrediction:
    """A prediction as an image. Images and features are computed when they are first read, once per step.

    Args:
        latents: the prediction, [b,c,h,w].
        noised: the latents that the networks see; `latents`, or those of the noise augmentation.
        decode: the decoder.
        extract: the vision transformer; None if no loss reads features.
        t: timestep of the prediction.
        visit: how many times its step has run before.
    """

    def __init__(
        self,
        latents: Float[Tensor, "b c h w"],
        noised: Float[Tensor, "b c h w"],
        decode: Decode,
        extract: Extract | None,
        t: int,
        visit: int = 0,
    ) -> None:
        self.latents, self.noised = latents, noised
        self.decode, self.extract = decode, extract
        self.t, self.visit = t, visit

    @cached_property
    def pixels(self) -> Float[Tensor, "b 3 height width"]:
        """D(P_t), in about [-1, 1]."""
        return self.decode(self.latents)

    @cached_property
    def seen(self) -> Float[Tensor, "b 3 height width"]:
        """The image that the pretrained networks see, in about [-1, 1]."""
        return self.pixels if self.noised is self.latents else self.decode(self.noised)

    @cached_property
    def features(self) -> Features:
        """Features of `seen`."""
        assert self.extract is not None
        return self.extract(self.seen)


Loss: TypeAlias = Callable[[DecodedPrediction], Float[Tensor, " b"]]
"""A loss of the prediction of one step, one number per image."""


class PredictionLoss(Protocol):
    """A loss that compares predictions with the source image or with a target."""

    def against(self, source: DecodedPrediction) -> Loss:
        """The loss of one run, for the source images; called once per run, without gradients.

        What a loss keeps from step to step belongs to the function that is returned.
        """


class PredictionEnergy:
    """A weighted sum of losses of the decoded prediction, for one run; a `Term` of an energy.

    Args:
        losses: the losses with their weights.
        decode: the decoder.
        extract: the vision transformer; None if no loss reads features.
        noise_augmentation: whether the networks see s P_t + (1 - s) x_t with s = sqrt(1 - abar_t) instead of P_t.
        through_network: whether the gradient passes through the denoising network; otherwise eps is constant.
    """

    def __init__(
        self,
        losses: Sequence[tuple[PredictionLoss, float]],
        decode: Decode,
        extract: Extract | None = None,
        *,
        noise_augmentation: bool = False,
        through_network: bool = True,
    ) -> None:
        self.losses = losses
        self.decode, self.extract = decode, extract
        self.noise_augmentation, self.through_network = noise_augmentation, through_network
        self._begun: list[tuple[Loss, float]] | None = None

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """The sum in one step.

        Raises:
            BadInput: the run generates an image, so that there is no source.
        """
        losses = self._of_run(state)

        def value(x: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
            P = predict_x0(x, eps if self.through_network else eps.detach(), state.abar)
            return self._linear(losses, state, x, P)

        return Measurement(value)

    def of_prediction(self, state: StepState, P: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Gradient with respect to x_t for a prediction whose noise is constant: dP_t / dx_t = 1 / sqrt(abar_t).

        Where abar_t = 0, P_t is the network's own and does not depend on x_t otherwise: dP_t / dx_t = 0.

        Args:
            state: the step.
            P: the prediction, after guidance and other shifts.
        """
        losses = self._of_run(state)
        with torch.enable_grad():
            x = state.x_t.detach().requires_grad_()
            slope = 1 / math.sqrt(state.abar) if state.abar > 0 else 0.0
            moved = P.detach() + slope * (x - state.x_t.detach())
            return scaled_gradients(self._linear(losses, state, x, moved).sum(), (x,))[0]

    def _linear(self, losses: Sequence[tuple[Loss, float]], state: StepState, x: Tensor, P: Tensor) -> Tensor:
        """The sum with its value and its gradients, as a linear function of x_t and P_t.

        The decoder and the networks of the losses are differentiated here, once. The backward pass that all energies of
        a step share then begins at P_t, and needs no batched derivatives of resampled images, which torch lacks.
        """
        with torch.enable_grad():
            starts = x.detach().requires_grad_(), P.detach().requires_grad_()
            total = self._sum(losses, state, *starts)
            slopes = scaled_gradients(total.sum(), starts)
        found = total.detach()
        for own, start, slope in zip((x, P), starts, slopes, strict=True):
            found = found + (slope * (own - start.detach())).sum(dim=(1, 2, 3))
        return found

    def _sum(self, losses: Sequence[tuple[Loss, float]], state: StepState, x: Tensor, P: Tensor) -> Tensor:
        s = math.sqrt(1 - state.abar)
        noised = s * P + (1 - s) * x if self.noise_augmentation else P
        seen = DecodedPrediction(P, noised, self.decode, self.extract, state.t, state.visit)
        total = [weight * loss(seen) for loss, weight in losses]
        return torch.stack(total).sum(dim=0)

    def _of_run(self, state: StepState) -> list[tuple[Loss, float]]:
        """The losses of this run; at its first step the source is decoded and its features are computed."""
        if self._begun is None:
            if not state.source:
                raise BadInput("These losses compare with a source image: invert an image first.")
            x0 = state.source[-1]
            with torch.no_grad():
                source = DecodedPrediction(x0, x0, self.decode, self.extract, state.t)
                self._begun = [(loss.against(source), weight) for loss, weight in self.losses]
        return self._begun
