"""Vision transformers as feature extractors: hidden states for perceptual distances, keys for structure distances."""

import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, CLIPVisionModel, SiglipVisionModel

from sfumato.errors import BadInput
from sfumato.metrics.folder import load_network

#: Models of two towers, of which the image tower is wanted; every other type opens as it is.
_TOWERS = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}


class VisionTower(nn.Module):
    """A frozen ViT in transformers' layout: the image tower of a CLIP or SigLIP, a ViT, DINO, DINOv2 and the like.

    Pictures are [b, 3, h, w] in [-1, 1], of any size: they are resized to the (height, width) in pixels that the tower
    was trained at, so that what it cannot see is not judged. Of its tokens the last fill the `grid` of patches, row by
    row; those before (class token, registers) have no place.

    Raises BadInput when the folder holds no such tower.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            table = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
            mean, std = torch.tensor(table["image_mean"]), torch.tensor(table["image_std"])
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(
                f"{folder} has no preprocessor_config.json with image_mean and image_std: it must be the folder of a "
                "vision transformer in transformers' layout."
            ) from error
        self.tower = load_network(_kind(folder), folder)
        config = self.tower.config
        if not hasattr(config, "image_size") or not hasattr(config, "patch_size"):
            raise BadInput(f"{folder} holds a {config.model_type}, which is no vision transformer with patches.")
        self.size, patch = _pair(config.image_size), _pair(config.patch_size)
        self.grid = (self.size[0] // patch[0], self.size[1] // patch[1])
        keys = [module for name, module in self.tower.named_modules() if name.endswith((".k_proj", ".key"))]
        if not keys:
            raise BadInput(f"the {config.model_type} in {folder} has no layer that makes keys alone.")
        self._last_keys = (keys[-1],)  # in a tuple, so that it is not registered twice
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The hidden states of every block, without the tokens that have no place: one map [b, d, *grid] for each."""
        states = self.tower(self._input(x), output_hidden_states=True).hidden_states
        return [self._places(state).mT.unflatten(2, self.grid) for state in states[1:]]

    def keys(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b t d"]:
        """The keys of the last layer's self-attention, heads side by side, for all tokens."""
        found: list[Tensor] = []
        hook = self._last_keys[0].register_forward_hook(lambda module, inputs, out: found.append(out))
        try:
            self.tower(self._input(x))
        finally:
            hook.remove()
        return found[0]

    def _input(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True, align_corners=False)
        return ((x + 1) / 2 - self.mean) / self.std

    def _places(self, tokens: Tensor) -> Tensor:
        return tokens[:, tokens.shape[1] - self.grid[0] * self.grid[1] :]


def _kind(folder: Path) -> type:
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{folder}/config.json cannot be read: it must say which model_type the folder holds."
        ) from error
    return _TOWERS.get(name, AutoModel)


def _pair(side: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else (side[0], side[1])
