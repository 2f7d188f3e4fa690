"""Losses of the decoded prediction P_t, which share the decoded image and one forward pass of each network.

    g = grad_{x_t} sum_k w_k L_k(D(P_t)),      P_t = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)

D is the decoder of the autoencoder, or the identity for pixel-space networks. DiffuseIT (Kwon and Ye, ICLR 2023, arXiv
2209.15264) and other methods that guide sampling by pretrained networks use such sums.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.energy import scaled_gradients
from sfumato.core.state import StepState, check_finite
from sfumato.core.step import predict_x0
from sfumato.errors import BadInput
from sfumato.shifts.energy.term import Measurement, label


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
"""Differentiable function that decodes latents to pixels in about [-1, 1]."""
Extract: TypeAlias = Callable[[Float[Tensor, "b 3 height width"]], Features]
"""Differentiable function that computes features of pixels in about [-1, 1], of any size."""


class DecodedPrediction:
    """A prediction as an image. Images and features are computed lazily, at most once per step.

    Args:
        latents: the prediction, [b,c,h,w].
        noised: the latents whose decoded images are the input of the pretrained networks: `latents`, or those with
            noise augmentation.
        decode: the decoder.
        extract: the vision transformer; None if no loss uses features.
        t: timestep of the prediction.
        visit: how many times the step has been run before.
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
        self._shared: dict[Hashable, Tensor] = {}

    @cached_property
    def pixels(self) -> Float[Tensor, "b 3 height width"]:
        """The decoded prediction D(P_t), in about [-1, 1]."""
        return self.decode(self.latents)

    @cached_property
    def seen(self) -> Float[Tensor, "b 3 height width"]:
        """The input image of the pretrained networks, in about [-1, 1]."""
        return self.pixels if self.noised is self.latents else self.decode(self.noised)

    @cached_property
    def features(self) -> Features:
        """Features of `seen`, by `extract`."""
        assert self.extract is not None
        return self.extract(self.seen)

    def shared(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return `compute()`, computed once per key: for outputs of other networks that several losses read."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]


Loss: TypeAlias = Callable[[DecodedPrediction], Float[Tensor, " b"]]
"""Loss of the prediction of one step, [b]."""


class PredictionLoss(Protocol):
    """Protocol of a loss that compares predictions with the source image or with a target."""

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run, given the source images. Called once per run, without gradients.

        State that a loss needs across steps must be stored in the returned function, not in this object.
        """


class PredictionEnergy:
    """A weighted sum of losses of the decoded prediction for one run; it implements the protocol `Term`.

    Args:
        losses: the losses with their weights.
        decode: the decoder.
        extract: the vision transformer; None if no loss uses features.
        noise_augmentation: whether the input of the pretrained networks is s P_t + (1 - s) x_t, decoded, with
            s = sqrt(1 - abar_t), instead of P_t.
        through_network: whether the gradient is backpropagated through the denoising network; otherwise eps is treated
            as a constant.
        name: name of the sum in error messages.
    """

    def __init__(
        self,
        losses: Sequence[tuple[PredictionLoss, float]],
        decode: Decode,
        extract: Extract | None = None,
        *,
        noise_augmentation: bool = False,
        through_network: bool = True,
        name: str = "losses",
    ) -> None:
        self.losses = losses
        self.decode, self.extract = decode, extract
        self.noise_augmentation, self.through_network = noise_augmentation, through_network
        self.name = name
        self._begun: list[tuple[Loss, float]] | None = None

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """Return the sum for one step; see `Term.measure`.

        Raises:
            BadInput: the run generates an image, so that there is no source.
        """
        losses = self._of_run(state)

        def value(x: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
            P = predict_x0(x, eps if self.through_network else eps.detach(), state.abar)
            return self._linear(losses, state, x, P)

        return Measurement(value)

    def of_prediction(self, state: StepState, P: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Compute the gradient with respect to x_t if eps is a constant: dP_t / dx_t = 1 / sqrt(abar_t).

        Where abar_t = 0, P_t is the output of the network, so that dP_t / dx_t = 0.

        Args:
            state: the step.
            P: the prediction, after guidance and other shifts.

        Raises:
            BadInput: the run generates an image, so that there is no source.
        """
        losses = self._of_run(state)
        with torch.enable_grad():
            x = state.x_t.detach().requires_grad_()
            slope = 1 / math.sqrt(state.abar) if state.abar > 0 else 0.0
            moved = P.detach() + slope * (x - state.x_t.detach())
            return scaled_gradients(self._linear(losses, state, x, moved).sum(), (x,))[0]

    def _linear(self, losses: Sequence[tuple[Loss, float]], state: StepState, x: Tensor, P: Tensor) -> Tensor:
        """The sum as a linear function of x_t and P_t with the same value and the same gradients.

        The decoder and the networks of the losses are differentiated once, here. The batched backward pass that all
        energies of a step share then starts at P_t. It does not have to differentiate the resampling of images, for
        which torch has no batched derivative.
        """
        with torch.enable_grad():
            starts = x.detach().requires_grad_(), P.detach().requires_grad_()
            parts = self._parts(losses, state, *starts)
            total = torch.stack(parts).sum(dim=0)
            slopes = scaled_gradients(total.sum(), starts)
            if not all(bool(torch.isfinite(slope).all()) for slope in slopes):
                self._check_parts(parts, starts, state)
        found = total.detach()
        for own, start, slope in zip((x, P), starts, slopes, strict=True):
            found = found + (slope * (own - start.detach())).sum(dim=(1, 2, 3))
        return found

    def _check_parts(self, parts: Sequence[Tensor], starts: Sequence[Tensor], state: StepState) -> None:
        """Raise NonFinite with the name of the first loss whose gradient is not finite."""
        for (loss, _), part in zip(self.losses, parts, strict=True):
            for slope in scaled_gradients(part.sum(), starts):
                check_finite(slope, f"the gradient of {self.name} ({label(loss)})", state.i, state.steps, state.t)

    def _parts(self, losses: Sequence[tuple[Loss, float]], state: StepState, x: Tensor, P: Tensor) -> list[Tensor]:
        s = math.sqrt(1 - state.abar)
        noised = s * P + (1 - s) * x if self.noise_augmentation else P
        seen = DecodedPrediction(P, noised, self.decode, self.extract, state.t, state.visit)
        return [weight * loss(seen) for loss, weight in losses]

    def _of_run(self, state: StepState) -> list[tuple[Loss, float]]:
        """The losses of this run; in its first step, the source is decoded and its features are computed."""
        if self._begun is None:
            if not state.source:
                raise BadInput("These losses compare with a source image: invert an image first.")
            x0 = state.source[-1]
            with torch.no_grad():
                source = DecodedPrediction(x0, x0, self.decode, self.extract, state.t)
                self._begun = [(loss.against(source), weight) for loss, weight in self.losses]
        return self._begun
