"""One contract for every network that sfumato edits with."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core.condition import Condition
from sfumato.core.rows import Rows
from sfumato.core.schedule import Schedule
from sfumato.core.step import per_row, to_epsilon
from sfumato.errors import BadInput
from sfumato.hooks import attach_hook
from sfumato.models.checks import check_inputs
from sfumato.models.class_labels import ClassLabels, class_labels
from sfumato.models.codec import Codec
from sfumato.models.conditioning import build_condition, token_widths
from sfumato.models.evaluations import Count, Evaluations
from sfumato.models.fingerprint import fingerprint, revision
from sfumato.models.placement import pick_device, pick_dtype
from sfumato.models.taps import AnyTap, tapped
from sfumato.models.text import TextEncoder
from sfumato.models.tokenizer import SharedTokenizer


class DiffusionModel:
    """A diffusers U-Net with the autoencoder, the text encoders and the schedule that it was trained with.

    Latents and predicted noise are float32 whatever the network's precision is: rounding them would cost more of
    the picture than computing in half precision does.

    Several threads may use one model at once: what a call sees does not depend on the calls beside it.

    Attributes:
        unet: UNet2DConditionModel or UNet2DModel.
        codec: between pixels and latents.
        text_encoders: none (unconditional), one (Stable Diffusion 1.x, 2.x) or two (XL).
        schedule: abar of every training timestep, and what the network predicts.
        name: what the user called it.
        settings: content of the folder's `sfumato.json`: defaults for editing and generating.
        empty_prompt_is_zero: whether the tokens of the empty prompt are zeros (SDXL's force_zeros_for_empty_prompt).
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
        self._evaluations = Evaluations()
        self._fingerprint: tuple[Any, str] | None = None
        for network in self._networks().values():
            network.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The network's precision."""
        return next(self.unet.parameters()).dtype

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.codec.channels

    @property
    def factor(self) -> int:
        """Pixels per latent, along each side."""
        return self.codec.factor

    @property
    def latent_multiple(self) -> int:
        """What height and width of a latent must be multiples of: the network halves it at each level but the last."""
        return int(2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def multiple(self) -> int:
        """What height and width of a picture in pixels must be multiples of."""
        return self.factor * self.latent_multiple

    @property
    def native_size(self) -> tuple[int, int]:
        """Height and width in pixels of the pictures that the network was trained on."""
        size = self.unet.config.sample_size or self.latent_multiple
        height, width = (size, size) if isinstance(size, int) else size
        return height * self.factor, width * self.factor

    @property
    def takes_text(self) -> bool:
        """Whether prompts mean anything to this model."""
        return bool(self.text_encoders)

    @property
    def map_channels(self) -> int:
        """Channels that the network expects beside the latent's (inpainting: 5), to be given as maps."""
        return int(self.unet.config.in_channels) - self.latent_channels

    @cached_property
    def class_labels(self) -> ClassLabels | None:
        """The class labels that the network expects; None where it has no class embedding."""
        return class_labels(self.unet)

    @cached_property
    def token_width(self) -> int:
        """Width of the tokens that cross-attention reads; 0 for a network without cross-attention."""
        return max(token_widths(self.unet), default=0)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (c, h, w) of the latent of a picture of that size in pixels.

        Raises:
            BadInput: a side is not a multiple of `multiple`.
        """
        if height < 1 or width < 1 or height % self.multiple or width % self.multiple:
            near = " x ".join(str(max(1, -(-side // self.multiple)) * self.multiple) for side in (width, height))
            raise BadInput(
                f"Width and height must be multiples of {self.multiple} pixels for this model, "
                f"not {width} x {height}; the next size is {near}."
            )
        return self.latent_channels, height // self.factor, width // self.factor

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """x_0 of pictures in [-1,1], as float32: the mode of the posterior in the network's scale.

        Raises:
            BadInput: not three channels, or a side that is not a multiple of `multiple`.
        """
        self.check_pixels(pixels)
        return self.codec.encode(pixels.to(self.device, torch.float32))

    def check_pixels(self, pixels: Float[Tensor, "b 3 h w"]) -> None:
        """Refuse pictures that cannot be encoded. Raises BadInput as `encode`."""
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise BadInput(f"Pictures must have the shape [b,3,h,w], not {list(pixels.shape)}.")
        self.latent_shape(*pixels.shape[-2:])

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Pictures of latents, nominally in [-1,1] and not clipped, as float32."""
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
        """What the network is conditioned on, one row per prompt.

        The empty prompt is the unconditional one. Where the pipeline says so (SDXL's base model) it is all zeros, as
        diffusers' missing negative prompt is. There is no unconditional label by default: see `ClassLabels`.

        Args:
            prompts: a list with one prompt per row, only empty ones for a model without text; or one prompt for as
                many rows as maps, labels or tokens have.
            size: height and width in pixels of the picture, for SDXL; the native size by default.
            maps: what the network expects concatenated to the latent, in the latent's resolution; for inpainting and
                InstructPix2Pix see `sfumato.models.maps`.
            labels: diffusers' class_labels, one per row; see `sfumato.models.class_labels`.
            tokens: what cross-attention reads, for a network without a text encoder.

        Raises:
            BadInput: no prompt, one that is too long, one for a model without text; maps, labels or tokens that the
                network takes and that are missing, that it does not take, or that do not fit.
        """
        return build_condition(self, prompts, size=size, maps=maps, labels=labels, tokens=tokens)

    def predict(
        self,
        x: Float[Tensor, "b c h w"],
        t: int | Tensor,
        cond: Condition | None = None,
        taps: Sequence[AnyTap] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """eps, whatever the network predicts.

        Args:
            x: latents; converted to the network's precision.
            t: timestep, one int for all or a tensor [b] with one per row.
            cond: one row per latent; None for a model without text.
            taps: what to read or replace inside the network, attention maps too, during this evaluation.

        Raises:
            BadInput: shapes, rows, timestep or taps that do not fit the model.
        """
        with tapped(self.unet, taps or (), Rows.of_evaluation(cond, len(x))):
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
        """h: the output of the middle block, at the price of the encoder half and the middle block alone.

        Raises:
            BadInput: as `predict`, or the network has no middle block.
        """
        if self.unet.mid_block is None:
            raise BadInput("This network has no middle block.")

        def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
            raise _BottleneckReached(output)

        handle = attach_hook(self.unet.mid_block, stop)
        try:
            self._forward(x, t, cond)
        except _BottleneckReached as reached:
            return reached.h
        finally:
            handle.remove()
        raise RuntimeError("the network did not run its middle block")

    def tapped(self, *taps: AnyTap) -> AbstractContextManager[None]:
        """Taps for every evaluation within a `with` block; see `sfumato.models.taps` and `.attention`."""
        return tapped(self.unet, taps)

    @property
    def count(self) -> Count:
        """Evaluations of the network since the model was loaded; `bottleneck` counts as one."""
        return self._evaluations.total

    def counting(self) -> AbstractContextManager[Count]:
        """Count the evaluations within a `with` block, from zero."""
        return self._evaluations.scope()

    def fingerprint(self) -> str:
        """SHA-256 of all weights and the schedule; kept until a weight changes."""
        now = self.revision()
        if self._fingerprint is None or self._fingerprint[0] != now:
            self._fingerprint = (now, fingerprint(self._networks(), self.schedule))
        return self._fingerprint[1]

    def revision(self) -> Any:
        """Something that changes whenever a weight does, at no cost."""
        return revision(self._networks())

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> "DiffusionModel":
        """Move this model, and change the precision of the network and the text encoders; None leaves either as it is.

        Raises:
            BadInput: no such device or precision.
        """
        place = self.device if device is None else pick_device(device)
        precision = self.dtype if dtype is None else pick_dtype(dtype)
        if precision != self.dtype:
            self._fingerprint = None
        for network in (self.unet, *(each.encoder for each in self.text_encoders)):
            # diffusers' own `to` warns at every change of precision
            nn.Module.to(network, device=place, dtype=precision)
        if self.codec.module is not None:
            self.codec.module.to(place)
        return self

    def _networks(self) -> dict[str, nn.Module]:
        networks = {f"text_{i}": each.encoder for i, each in enumerate(self.text_encoders)} | {"unet": self.unet}
        return networks if self.codec.module is None else networks | {"autoencoder": self.codec.module}

    def _forward(self, x: Tensor, t: int | Tensor, cond: Condition | None) -> Tensor:
        """One evaluation of the network: its raw output, in its own precision."""
        cond = Condition(rows=len(x)) if cond is None else cond
        check_inputs(self, x, t, cond)
        self._evaluations.add(len(x))
        sample = x if cond.maps is None else torch.cat([x, cond.maps.to(x.dtype)], dim=1)
        sample = sample.to(self.device, self.dtype)
        timestep = t if isinstance(t, int) else t.to(self.device)
        labels = cond.labels
        if labels is not None:
            # indices and timesteps keep their precision, vectors go through weights of the network's
            labels = labels.to(self.device, self.dtype if labels.ndim > 1 else labels.dtype)
        if not isinstance(self.unet, UNet2DConditionModel):
            return self.unet(sample, timestep, class_labels=labels, return_dict=False)[0]
        added = None if cond.pooled is None else {"text_embeds": cond.pooled, "time_ids": cond.added}
        return self.unet(
            sample,
            timestep,
            encoder_hidden_states=None if cond.tokens is None else cond.tokens.to(self.dtype),
            class_labels=labels,
            encoder_attention_mask=cond.token_mask,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]


class _BottleneckReached(Exception):
    """Carries h out of the network's forward pass."""

    def __init__(self, h: Tensor) -> None:
        self.h = h
