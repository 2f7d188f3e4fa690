"""`DiffusionModel`, the common interface of all networks that sfumato edits with."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.rows import Rows
from sfumato.core.step import per_row, to_epsilon
from sfumato.errors import BadInput
from sfumato.models.checks import check_inputs
from sfumato.models.components import Components
from sfumato.models.conditioning import build_condition, text_condition
from sfumato.models.encoder_half import MIDDLE, split
from sfumato.models.evaluations import Count
from sfumato.models.forward import forward
from sfumato.models.taps import AnyTap, Record, tapped
from sfumato.models.weight_changes import changed_weights


class DiffusionModel(Components):
    """A diffusers U-Net with the autoencoder, the text encoders and the noise schedule that it was trained with.

    Latents and predicted noise are float32 even if the network computes in half precision, because rounding them to
    half precision causes a larger error than the network's own half-precision arithmetic.

    Several threads may use the same model at once; their calls do not affect one another.

    The attributes, sizes and the device are those of `Components`.
    """

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Encode images in [-1,1] to x_0, float32: the mode of the posterior, scaled for the network.

        Raises:
            BadInput: the images do not have three channels, or a side is not a multiple of `multiple`.
        """
        self.check_pixels(pixels)
        with _gradients_of(pixels):
            return self.codec.encode(pixels.to(self.device, torch.float32))

    def check_pixels(self, pixels: Float[Tensor, "b 3 h w"]) -> None:
        """Check that images can be encoded. Raises BadInput as `encode`."""
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise BadInput(f"Images must have the shape [b,3,h,w], not {list(pixels.shape)}.")
        self.latent_shape(*pixels.shape[-2:])

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Decode latents to images, float32, nominally in [-1,1] and not clipped."""
        with _gradients_of(latents):
            return self.codec.decode(latents.to(self.device, torch.float32))

    def condition(
        self,
        prompts: str | Sequence[str] = "",
        *,
        size: tuple[int, int] | None = None,
        maps: Float[Tensor, "b c h w"] | None = None,
        labels: int | Sequence[Any] | Tensor | None = None,
        tokens: Float[Tensor, "b n d"] | None = None,
    ) -> Condition:
        """Build the condition of the network, one row per prompt.

        The empty prompt is the unconditional one. With `empty_prompt_is_zero` (SDXL's base model) its embedding is
        zero, as in diffusers without a negative prompt. Class labels have no unconditional default: see `ClassLabels`.

        Args:
            prompts: a list with one prompt per row (empty ones for a model without text encoder); or a single prompt,
                which is used for all rows of maps, labels or tokens.
            size: height and width of the image in pixels, for SDXL; the native size by default.
            maps: channels to concatenate to the latent, at the latent's resolution; for inpainting and
                InstructPix2Pix see `sfumato.models.maps`.
            labels: diffusers' class_labels, one per row; see `sfumato.models.class_labels`.
            tokens: embeddings for cross-attention (diffusers' encoder_hidden_states), for a network without a text
                encoder.

        Raises:
            BadInput: there is no prompt, a prompt is too long or the model has no text encoder; or maps, labels or
                tokens are missing, not expected or do not fit.
        """
        return build_condition(self, prompts, size=size, maps=maps, labels=labels, tokens=tokens)

    def text_condition(self, prompts: Sequence[str], *, size: tuple[int, int] | None = None) -> Condition:
        """Build a condition of prompts only, one row per prompt, also for a network that takes other inputs too.

        Args:
            prompts: one per row; empty ones for a model without text encoder.
            size: as for `condition`.

        Raises:
            BadInput: a prompt is too long, or is not empty and the model has no text encoder.
        """
        return text_condition(self, prompts, size=size)

    def predict(
        self,
        x: Float[Tensor, "b c h w"],
        t: int | Tensor,
        cond: Condition | None = None,
        taps: Sequence[AnyTap] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict the noise eps at x_t; outputs of v- and sample-prediction networks are converted.

        Where abar_t = 0 (zero terminal SNR), x_t is the noise itself, and v is returned instead (`sfumato.core.step`).

        Args:
            x: latents x_t; moved to the device of the network and converted to its precision.
            t: timestep, one int for all rows or a tensor [b] with one per row.
            cond: condition, one row per latent; None for a model without conditions.
            taps: taps that read or replace features or attention maps in this evaluation.

        Returns:
            eps, float32 (float64 if the network computes in float64).

        Raises:
            BadInput: the shapes, number of rows, timestep or taps do not fit the model.
        """
        x = x.to(self.device)
        half, own = split(taps or ())
        rows = Rows.of_evaluation(cond, len(x))
        with changed_weights(self.unet, cond):
            first = None if half is None else half.of(self.unet, x, t, cond, own)
            if first is not None:
                self._evaluations.add(len(x))
                output = first.decode(self.unet, rows, own)
            else:
                with (
                    tapped(self.unet, own, rows),
                    nullcontext() if half is None else half.recording(self.unet, x, t, cond, own),
                ):
                    output = self._forward(x, t, cond)
        precision = torch.promote_types(output.dtype, torch.float32)
        if self.schedule.prediction_type == "epsilon":
            return output.to(precision)
        if isinstance(t, int):
            level: Any = self.schedule.abar(t)
        else:
            level = per_row([self.schedule.abar(each) for each in t.tolist()], x)
        return to_epsilon(output, x, level, self.schedule.prediction_type).to(precision)

    def bottleneck(
        self, x: Float[Tensor, "b c h w"], t: int | Tensor, cond: Condition | None = None
    ) -> Float[Tensor, "b d h2 w2"]:
        """h, the output of the middle block; the decoder half of the network is not evaluated.

        Raises:
            BadInput: as in `predict`, or the network has no middle block.
        """
        if self.unet.mid_block is None:
            raise BadInput("This network has no middle block: load another model.")

        middle = Record(MIDDLE)
        self.read(x, t, cond, [middle])
        return middle.output

    def read(
        self, x: Float[Tensor, "b c h w"], t: int | Tensor, cond: Condition | None, taps: Sequence[AnyTap]
    ) -> None:
        """Call taps that only read in an evaluation that ends after the last tapped module.

        Raises:
            BadInput: as in `predict`.
        """
        with changed_weights(self.unet, cond), tapped(self.unet, taps, Rows.of_evaluation(cond, len(x)), stop=True):
            self._forward(x, t, cond)

    def tapped(self, *taps: AnyTap) -> AbstractContextManager[None]:
        """Attach taps for all evaluations in a `with` block; see `sfumato.models.taps` and `.attention`."""
        return tapped(self.unet, taps)

    @property
    def count(self) -> Count:
        """Number of evaluations since the model was loaded; `bottleneck` counts as one."""
        return self._evaluations.total

    def counting(self) -> AbstractContextManager[Count]:
        """Count the evaluations in a `with` block, from zero."""
        return self._evaluations.scope()

    def _forward(self, x: Tensor, t: int | Tensor, cond: Condition | None) -> Tensor:
        """One forward pass: the output of the network, in its own precision."""
        cond = Condition(rows=len(x)) if cond is None else cond
        check_inputs(self, x, t, cond)
        self._evaluations.add(len(x))
        return forward(self.unet, x.to(self.device), t, cond)


def _gradients_of(values: Tensor) -> AbstractContextManager[Any]:
    """Enable gradients only if the input requires them; an offloaded autoencoder then need not stay on the device."""
    return torch.set_grad_enabled(torch.is_grad_enabled() and values.requires_grad)
