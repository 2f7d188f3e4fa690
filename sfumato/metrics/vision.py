"""Vision transformers as feature extractors: hidden states for perceptual distances, keys for structure distances."""

from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.hooks import attach_hook
from sfumato.metrics.frozen import load_frozen
from sfumato.networks.image_networks import VISION, vision_type
from sfumato.networks.preprocessor import MOST_SIDE, read_statistics

#: model_type of config.json -> class; for dual encoders the class of the image encoder.
CLASSES: dict[str, type[Any]] = {name: getattr(transformers, kind) for name, kind in VISION.items()}
#: Largest number of patches; published networks have at most 4096.
MOST_PATCHES = 1 << 14
#: Weights that may be missing: the pooler is not used, and self-supervised models are published without it.
_UNUSED = "pooler."


class VisionEncoder(nn.Module):
    """A frozen ViT in transformers' layout: the image encoder of a CLIP or SigLIP, a ViT, DINO, DINOv2, ...

    Images are [b, 3, h, w] in [-1, 1], of any size; they are resized to the (height, width) in pixels that the encoder
    was trained at, always by an antialiased bicubic filter. The last tokens are those of the `grid` of patches, row by
    row. The tokens before them (class token, registers) have no position.

    Args:
        folder: folder with config.json, preprocessor_config.json and weights as safetensors.

    Raises:
        BadInput: the folder does not contain such an encoder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        mean, std = (torch.tensor(values) for values in read_statistics(folder))
        kind = CLASSES[vision_type(folder)]
        self.model = load_frozen(kind, folder, optional=_UNUSED)
        config = self.model.config
        self.size, self.grid = _sizes(folder, _pair(config.image_size), _pair(config.patch_size))
        keys = [module for name, module in self.model.named_modules() if name.endswith((".k_proj", ".key"))]
        if not keys:
            raise BadInput(
                f"the {config.model_type} in {folder} has no separate layer for the attention keys (k_proj or key): "
                "give another encoder."
            )
        self._last_keys = (keys[-1],)  # in a tuple, so that the module is not registered a second time
        names = [name for name, _ in self.model.named_parameters()]
        self.has_class_token = any(name.endswith(("cls_token", "class_embedding")) for name in names)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The hidden states of every block as one map [b, d, *grid] each, without tokens that have no position."""
        states = self.model(self._input(x), output_hidden_states=True).hidden_states
        return [self._places(state).mT.unflatten(2, self.grid) for state in states[1:]]

    def keys(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b t d"]:
        """The self-attention keys of the last layer for all tokens, heads concatenated."""
        return self._evaluated(x)[0]

    def keys_and_class_token(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d"]]:
        """`keys`, and the class token after the last block, before the final normalisation.

        Only for encoders with a class token, see `has_class_token`. Differentiable if gradients are enabled.
        """
        keys, outputs = self._evaluated(x, output_hidden_states=True)
        return keys, outputs.hidden_states[-1][:, 0]

    def _evaluated(self, x: Tensor, **options: Any) -> tuple[Tensor, Any]:
        """The keys of the last layer, and the outputs of the model."""
        found: list[Tensor] = []
        hook = attach_hook(self._last_keys[0], lambda module, inputs, out: found.append(out))
        try:
            outputs = self.model(self._input(x), **options)
        finally:
            hook.remove()
        return found[0], outputs

    def _input(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True, align_corners=False)
        return ((x + 1) / 2 - self.mean) / self.std

    def _places(self, tokens: Tensor) -> Tensor:
        return tokens[:, tokens.shape[1] - self.grid[0] * self.grid[1] :]


def _sizes(folder: Path, size: tuple[int, int], patch: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the input in pixels, and of the grid in patches."""
    if min(patch) > 0 and max(size) <= MOST_SIDE:
        grid = size[0] // patch[0], size[1] // patch[1]
        if 0 < grid[0] * grid[1] <= MOST_PATCHES:
            return size, grid
    raise BadInput(
        f"{folder} describes images of {size} pixels in patches of {patch}: at most {MOST_SIDE} pixels a side and "
        f"1 to {MOST_PATCHES:,} patches are possible; download the folder again."
    )


def _pair(side: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else (side[0], side[-1])
