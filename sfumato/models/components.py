"""The networks of a diffusion model: their sizes and inputs, the device and precision, and the fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import nn

from sfumato.core.schedule import Schedule
from sfumato.devices import check_offload, pick_device
from sfumato.errors import BadInput
from sfumato.models.class_labels import ClassLabels, class_labels
from sfumato.models.codec import Codec
from sfumato.models.conditioning import token_widths
from sfumato.models.evaluations import Evaluations
from sfumato.models.fingerprint import FingerprintCache, fingerprint, revision
from sfumato.models.offload import computes_on, is_offloaded, offload
from sfumato.models.precision import pick_dtype
from sfumato.models.text import MOST_CHUNKS, TextEncoder
from sfumato.models.tokenizer import SharedTokenizer


class Components:
    """The U-Net, autoencoder, text encoders and noise schedule of a model; base class of `DiffusionModel`.

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

    def fingerprint(self) -> str:
        """SHA-256 of all weights and the schedule, in hexadecimal; cached until a weight changes."""
        return self._fingerprint.get(self.revision, lambda: fingerprint(self._networks(), self.schedule))

    def fingerprint_soon(self) -> None:
        """Compute the fingerprint in another thread if none is cached."""
        self._fingerprint.fill_soon(self.fingerprint)

    def revision(self) -> Any:
        """A cheap value that changes when a weight changes; see `sfumato.models.fingerprint.revision`."""
        return revision(self._networks(), moving=is_offloaded(self.unet))

    def offload(self, device: str | torch.device | None = None) -> Self:
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

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Self:
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
