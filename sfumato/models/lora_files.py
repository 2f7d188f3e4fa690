"""Read the weight changes in LoRA files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.models.added_contents import lora_parts
from sfumato.models.added_files import GivenLora, place_and_scale
from sfumato.models.lora_metadata import AdapterMetadata
from sfumato.regular_files import file_hash

_FIRST = {
    "lora_unet_": "unet_",
    "lora_te_": "text_encoder_",
    "lora_te1_": "text_encoder_",
    "lora_te2_": "text_encoder_2_",
}


@dataclass(frozen=True, eq=False)
class Change:
    """The change of one layer, W + s (alpha / r) U D.

    Attributes:
        layer: name of the layer in the file.
        down: D, [r, in] or, for a convolution, [r, in, k, k].
        up: U, [out, r] or [out, r, 1, 1].
        factor: alpha / r.
    """

    layer: str
    down: Tensor
    up: Tensor
    factor: float


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA file.

    Attributes:
        path: the file.
        scale: s, the factor of all changes.
        changes: the change of every layer.
    """

    path: Path
    scale: float
    changes: tuple[Change, ...]

    def about(self) -> dict[str, Any]:
        """Name, hash and scale, for recipes."""
        return {"name": self.path.name, "sha256": file_hash(self.path, "give the file again"), "scale": self.scale}


def read_loras(given: GivenLora | Sequence[GivenLora]) -> tuple[Lora, ...]:
    """Read LoRA files.

    Args:
        given: one or several, each a path, "FILE:SCALE" or (path, scale).

    Raises:
        BadInput: a file is not a LoRA or is of an unsupported kind, or a scale is not a finite number.
    """
    several: list[Any] = [given]
    if isinstance(given, list | tuple) and not (len(given) == 2 and isinstance(given[1], int | float)):
        several = list(given)
    return tuple(_read_lora(*place_and_scale(each)) for each in several)


def flattened(name: str) -> str:
    """Canonical name of a layer, equal for all file formats: parts joined by "_", without format-specific suffixes."""
    flat = name.replace(".processor.", ".").replace(".", "_")
    for theirs, ours in _FIRST.items():
        if flat.startswith(theirs):
            return ours + flat.removeprefix(theirs)
    return flat


def _read_lora(path: Path, scale: float) -> Lora:
    name, parts = printable(path), lora_parts(path)
    with safe_open(path, "pt") as stored:
        metadata = AdapterMetadata(name, stored.metadata() or {}, list(parts))
        changes = [_change(stored, layer, kinds, metadata) for layer, kinds in parts.items()]
    for change in changes:
        numbers = bool(change.up.isfinite().all()) and bool(change.down.isfinite().all())
        if change.up.flatten(1).shape[1] != len(change.down) or not (numbers and math.isfinite(change.factor)):
            raise BadInput(
                f"{name} is damaged: the matrices of {change.layer!r:.100} do not fit or are not finite; download it "
                "again."
            )
    return Lora(path, scale, tuple(changes))


def _change(stored: Any, layer: str, kinds: Mapping[str, str], metadata: AdapterMetadata) -> Change:
    down, up = (stored.get_tensor(kinds[kind]).float() for kind in ("down", "up"))
    down, up = (matrix if matrix.ndim > 1 else matrix.reshape(-1, 1) for matrix in (down, up))
    if "alpha" not in kinds:
        return Change(layer, down, up, metadata.factor(layer, len(down)))
    alpha = stored.get_tensor(kinds["alpha"]).float().flatten()
    return Change(layer, down, up, float(alpha) / max(1, len(down)) if len(alpha) == 1 else math.nan)
