"""`DiffusionModel`, the common interface of all networks that sfumato edits with."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core.condition import Condition
from sfumato.core.rows import Rows
from sfumato.core.schedule import Schedule
from sfumato.core.step import per_row, to_epsilon
from sfumato.devices import check_offload, pick_device
from sfumato.errors import BadInput
from sfumato.models.checks import check_inputs
from sfumato.models.class_labels import ClassLabels, class_labels
from sfumato.models.codec import Codec
from sfumato.models.conditioning import build_condition, text_condition, token_widths
from sfumato.models.encoder_half import MIDDLE, split
from sfumato.models.evaluations import Count, Evaluations
from sfumato.models.fingerprint import FingerprintCache, fingerprint, revision
from sfumato.models.forward import forward
from sfumato.models.offload import computes_on, is_offloaded, offload
from sfumato.models.precision import pick_dtype
from sfumato.models.taps import AnyTap, Record, tapped
from sfumato.models.text import MOST_CHUNKS, TextEncoder
from sfumato.models.tokenizer import SharedTokenizer
from sfumato.models.weight_changes import changed_weights


class DiffusionModel:
    """A diffusers U-Net with the autoencoder, the text encoders and the noise schedule that it was trained with.

    Latents and predicted noise are float32 even if the network computes in half precision, because rounding them to
    half precision causes a larger error than the network's own half-precision arithmetic.

    Several threads may use the same model at once; their calls do not affect one another.

    Attributes:
        unet: UNet2DConditionModel or UNet2DModel.
        codec: encodes pixels to latents and decodes latents.
        text_encoders: () for models without text, one (Stable Diffusion 1.x, 2.x) or two (XL).
        schedule: noise schedule, with the prediction type of the network.
        name: name or path by which the user loaded the model.
        settings: content of the folder's `sfumato.json`: defaults for editing and generating.
        additions: LoRAs, textual inversions and prompt settings that were added to the loaded model, for recipes.
        empty_prompt_is_zero: whether the embedding of the empty prompt is zero (SDXL's force_zeros_for_empty_prompt).
    """

    def __init__(
        self,
        unet: Any,
        codec: Codec,
        text_encoders: Sequence[TextEncoder],
        schedule: Schedule,
        *,
        name: str = "",
        settings: Mapping[str, Any] | None = None,
        empty_prompt_is_zero: bool = False,
    ) -> None:
        self.unet = unet
        self.codec = codec
        self.text_encoders = tuple(replace(each, tokenizer=SharedTokenizer(each.tokenizer)) for each in text_encoders)
        self.schedule = schedule
        self.name = name
        self.settings = dict(settings or {})
        self.empty_prompt_is_zero = empty_prompt_is_zero
        self.additions: dict[str, Any] = {}
        self._evaluations = Evaluations()
        self._fingerprint = FingerprintCache()
        for network in self._networks().values():
            network.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Device of the network; for an offloaded network, the device on which it computes."""
        return computes_on(self.unet)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return next(self.unet.parameters()).dtype

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.codec.channels

    @property
    def factor(self) -> int:
        """Downsampling factor of the autoencoder, along each side."""
        return self.codec.factor

    @property
    def latent_multiple(self) -> int:
        """Height and width of a latent must be multiples of this: every level of the U-Net but the last halves them."""
        return int(2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def multiple(self) -> int:
        """Height and width of an image in pixels must be multiples of this."""
        return self.factor * self.latent_multiple

    @property
    def native_size(self) -> tuple[int, int]:
        """Height and width in pixels of the training images."""
        size = self.unet.config.sample_size or self.latent_multiple
        height, width = (size, size) if isinstance(size, int) else size
        return height * self.factor, width * self.factor

    @property
    def takes_text(self) -> bool:
        """Whether the model has a text encoder."""
        return bool(self.text_encoders)

    @property
    def map_channels(self) -> int:
        """Number of channels concatenated to the latent (inpainting: 5), given as `maps` of the condition."""
        return int(self.unet.config.in_channels) - self.latent_channels

    @cached_property
    def class_labels(self) -> ClassLabels | None:
        """The class labels that the network takes, or None if it has no class embedding."""
        return class_labels(self.unet)

    @cached_property
    def token_width(self) -> int:
        """Dimension of the text embeddings that cross-attention takes; 0 for a network without cross-attention."""
        return max(token_widths(self.unet), default=0)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (c, h, w) of the latent of an image of the given size in pixels.

        Raises:
            BadInput: height or width is not a positive multiple of `multiple`.
        """
        if height < 1 or width < 1 or height % self.multiple or width % self.multiple:
            near = " x ".join(str(max(1, -(-side // self.multiple)) * self.multiple) for side in (width, height))
            raise BadInput(
                f"Width and height must be multiples of {self.multiple} pixels for this model, "
                f"not {width} x {height}; the next size is {near}."
            )
        return self.latent_channels, height // self.factor, width // self.factor

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

    def read_prompts(self, *, weights: bool = False, chunks: int = 1) -> None:
        """Set whether prompts may contain weights, and the maximum length of a prompt.

        Args:
            weights: whether "(word:1.4)" is a word with a weight, see `sfumato.models.prompt_weights`.
            chunks: number of chunks of the context length into which each prompt is split, 1 to 20; prompts may be that
                many times longer. All prompts of a run are padded to this number of chunks.

        Raises:
            BadInput: chunks is out of range, or the model has no text encoder.
        """
        if isinstance(chunks, bool) or not isinstance(chunks, int) or not 1 <= chunks <= MOST_CHUNKS:
            raise BadInput(f"prompt_chunks must be an integer from 1 to {MOST_CHUNKS}, not {chunks!r:.100}.")
        if (weights or chunks > 1) and not self.takes_text:
            raise BadInput(
                f"{self.name or 'This model'} has no text input: leave prompt_weights and prompt_chunks out."
            )
        self.text_encoders = tuple(replace(each, weighted=weights, chunks=chunks) for each in self.text_encoders)
        given = ({"prompt_weights": True} if weights else {}) | ({"prompt_chunks": chunks} if chunks > 1 else {})
        rest = {name: value for name, value in self.additions.items() if name[:7] != "prompt_"}
        self.additions = rest | given

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

    def fingerprint(self) -> str:
        """SHA-256 of all weights and the schedule, in hexadecimal; cached until a weight changes."""
        return self._fingerprint.get(self.revision, lambda: fingerprint(self._networks(), self.schedule))

    def fingerprint_soon(self) -> None:
        """Compute the fingerprint in another thread if none is cached."""
        self._fingerprint.fill_soon(self.fingerprint)

    def revision(self) -> Any:
        """A cheap value that changes when a weight changes; see `sfumato.models.fingerprint.revision`."""
        return revision(self._networks(), moving=is_offloaded(self.unet))

    def offload(self, device: str | torch.device | None = None) -> "DiffusionModel":
        """Keep the networks in main memory; each is moved to the device while it computes (`sfumato.models.offload`).

        Args:
            device: device on which the networks compute; by default CUDA if available.

        Raises:
            BadInput: the device does not exist, or is the CPU, which has no memory of its own.
        """
        place = pick_device(device)
        check_offload(place.type)
        offload(self._networks().values(), place)
        return self

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> "DiffusionModel":
        """Move the model in place and set the precision of U-Net and text encoders; None leaves either as it is.

        An offloaded model stays offloaded, and computes on the new device.

        Raises:
            BadInput: the device or precision does not exist, or an offloaded model would compute on the CPU.
        """
        place = self.device if device is None else pick_device(device)
        precision = self.dtype if dtype is None else pick_dtype(dtype)
        if precision != self.dtype:
            self._fingerprint.clear()
        if is_offloaded(self.unet):
            for network in (self.unet, *(each.encoder for each in self.text_encoders)):
                nn.Module.to(network, dtype=precision)
            return self.offload(place)
        for network in (self.unet, *(each.encoder for each in self.text_encoders)):
            # not `network.to`, because diffusers' `to` logs a warning when it changes the precision
            nn.Module.to(network, device=place, dtype=precision)
        if self.codec.module is not None:
            self.codec.module.to(place)
        return self

    def _networks(self) -> dict[str, nn.Module]:
        networks = {f"text_{i}": each.encoder for i, each in enumerate(self.text_encoders)} | {"unet": self.unet}
        return networks if self.codec.module is None else networks | {"autoencoder": self.codec.module}

    def _forward(self, x: Tensor, t: int | Tensor, cond: Condition | None) -> Tensor:
        """One forward pass: the output of the network, in its own precision."""
        cond = Condition(rows=len(x)) if cond is None else cond
        check_inputs(self, x, t, cond)
        self._evaluations.add(len(x))
        return forward(self.unet, x.to(self.device), t, cond)


def _gradients_of(values: Tensor) -> AbstractContextManager[Any]:
    """Enable gradients only if the input requires them; an offloaded autoencoder then need not stay on the device."""
    return torch.set_grad_enabled(torch.is_grad_enabled() and values.requires_grad)
