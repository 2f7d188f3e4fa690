"""The style encoder A: computes descriptors of the style of images that depend little on their content."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.formats import STYLE_ENCODER, Format
from sfumato.metrics.checks import check_rgb
from sfumato.style.files import style_file
from sfumato.style.fingerprints import fingerprint_of
from sfumato.style.network import GROUPS, StyleNetwork
from sfumato.style.words import StyleWords

BATCH = 64
_WORDS = "words."
"""Prefix of the names of the tensors of the style words in a file."""


@dataclass(frozen=True, eq=False)
class StyleEncoder:
    """A trained style encoder with the words of its training captions.

    Attributes:
        network: network that computes the descriptors.
        size: side of the training images in pixels.
        words: the style words with their mean descriptors.
    """

    FORMAT: ClassVar[Format] = STYLE_ENCODER

    network: StyleNetwork
    size: int
    words: StyleWords

    @property
    def dimension(self) -> int:
        """d, the length of a descriptor."""
        return self.network.dimension

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights and size, in hexadecimal; descriptors are comparable only if it is equal."""
        return fingerprint_of(self.network, {"size": self.size})

    def on(self, device: str | torch.device) -> "StyleEncoder":
        """Move the network to a device."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def image_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit descriptors, float32, of images in [0, 1]; they are resized to `size`.

        Raises:
            BadInput: other values or shapes.
            NonFinite: an image contains NaN or infinity.
        """
        check_rgb(pixels)
        device = next(self.network.parameters()).device
        parts = [self.embed(2 * part.to(device).float() - 1) for part in pixels.split(BATCH)]
        return torch.cat(parts)

    def embed(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit descriptors of images, clipped to [-1, 1]; differentiable if gradients are enabled."""
        x = x.clamp(-1, 1)
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp(-1, 1)
        return F.normalize(self.network(x), dim=-1)

    def text_features(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Unit descriptors of style words, such as "twemoji". Raises BadInput for a text without a known word."""
        return F.normalize(torch.stack([self.words(text) for text in texts]), dim=-1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file in half precision, atomically. Raises BadInput if it cannot be written."""
        header = {"size": self.size, "channels": self.network.channels, "dimension": self.dimension}
        words = {f"{_WORDS}means": self.words.means, f"{_WORDS}centre": self.words.centre}
        tensors = {name: value.half() for name, value in (self.network.state_dict() | words).items()}
        self.FORMAT.write(path, header | {"words": list(self.words.words)}, tensors)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "StyleEncoder":
        """Read a file that `save` wrote.

        Raises:
            BadInput: the file does not exist, is not a style encoder, or is damaged.
        """
        return StyleEncoder.FORMAT.read(path, _assemble)


def _assemble(header: Any, tensors: dict[str, Tensor]) -> StyleEncoder:
    """Build an encoder from the content of a file. Raises KeyError, TypeError or ValueError if it is invalid."""
    channels, size, dimension = tuple(header["channels"]), header["size"], header["dimension"]
    words = header["words"]
    if not all(type(each) is int and 0 < each <= 1 << 14 for each in (*channels, size, dimension)):
        raise ValueError("sizes out of range")
    if not channels or len(channels) > 16 or any(each % GROUPS for each in channels):
        raise ValueError("channels out of range")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("words that are not text")
    if not all(value.dtype == torch.float16 and bool(value.isfinite().all()) for value in tensors.values()):
        raise ValueError("weights that are not finite")
    means, centre = (tensors.pop(f"{_WORDS}{name}").float() for name in ("means", "centre"))
    if means.shape != (len(words), dimension) or centre.shape != (dimension,):
        raise ValueError("words of another dimension")
    with torch.device("meta"):  # the shapes are compared before any memory is allocated for them
        network = StyleNetwork(channels, dimension)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    if shapes != {name: value.shape for name, value in tensors.items()}:
        raise ValueError("tensors of other shapes")
    network.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    return StyleEncoder(network.eval().requires_grad_(False), size, StyleWords(tuple(words), means, centre))


def load_style_encoder(path: str | os.PathLike[str]) -> StyleEncoder:
    """Load a style encoder from its file, or from the folder that `sfumato train style` exported. Raises BadInput."""
    return StyleEncoder.load(style_file(path))
