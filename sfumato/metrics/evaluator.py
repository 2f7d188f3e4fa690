"""Every metric of an edit in one call, with the networks loaded once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.metrics.checks import Mask, check_pair, mask_weights
from sfumato.metrics.edit_batch import EditBatch
from sfumato.metrics.frozen import local_folder
from sfumato.metrics.perceptual import PerceptualDistance, load_perceptual
from sfumato.metrics.registry import METRICS, measure
from sfumato.metrics.text import DualEncoder
from sfumato.metrics.vision import VisionEncoder

#: The dual encoder that comes with the package. It knows emoji artwork: for photographs name a CLIP.
SHIPPED = Path(__file__).parent.parent / "bundled" / "emoji" / "dual_encoder"

Named = str | os.PathLike[str] | None


@dataclass(frozen=True, eq=False)
class Evaluator:
    """The networks that an edit is measured with.

    Attributes:
        clip: compares images with texts.
        structure: whose keys the structure distance compares.
        perceptual: the distance called `lpips`.
    """

    clip: DualEncoder
    structure: VisionEncoder
    perceptual: PerceptualDistance

    @classmethod
    def load(
        cls,
        clip: Named = None,
        structure: Named = None,
        perceptual: Named = None,
        device: str | torch.device | None = None,
    ) -> "Evaluator":
        """Load each network from a local folder, or from a hub id that the user named.

        clip: a CLIPModel of transformers; the shipped dual encoder by default. structure: a vision transformer (DINO,
        DINOv2, ViT, CLIP); by default the image encoder of `clip`. perceptual: see `load_perceptual`; by default the
        image encoder of `clip` too. Raises BadInput for what cannot be opened.
        """
        folder = local_folder(SHIPPED if clip is None else clip)
        place = torch.device(device or "cpu")
        return cls(
            DualEncoder.load(folder, place),
            VisionEncoder(folder if structure is None else local_folder(structure)).to(place),
            load_perceptual(os.fspath(folder if perceptual is None else perceptual)).to(place),
        )

    def __call__(
        self, source: Float[Tensor, "b 3 h w"], edit: Float[Tensor, "b 3 h w"], **inputs: Any
    ) -> dict[str, Tensor]:
        """The metrics of `METRICS` that what is given allows, by name: float64 [b] each, on the CPU.

        NaN where a metric has no value for an image: a mask without an inside or an outside, SSIM of less than one
        window, a direction between equal texts. Arguments and errors are those of `batch`.
        """
        return measure(METRICS, self.batch(source, edit, **inputs))

    def batch(
        self,
        source: Float[Tensor, "b 3 h w"],
        edit: Float[Tensor, "b 3 h w"],
        *,
        target: Float[Tensor, "..."] | None = None,
        mask: Mask = None,
        source_texts: Sequence[str] | None = None,
        target_texts: Sequence[str] | None = None,
    ) -> EditBatch:
        """Edits to be measured with these networks.

        Args:
            source: images before the edit, in [0, 1].
            edit: images after the edit, in [0, 1].
            target: images that the edits should have given, in [0, 1].
            mask: [h,w] or [b,h,w] in [0, 1], 1 where the image was to change.
            source_texts: a prompt for each source image; needs `target_texts`.
            target_texts: a prompt for each edited image.

        Raises:
            BadInput: shapes or values that cannot be.
            NonFinite: NaN in an image.
        """
        check_pair(source, edit)
        if target is not None:
            check_pair(target, edit)
        if source_texts is not None and target_texts is None:
            raise BadInput("a source text alone says nothing about the edit: give the target text too.")
        for texts in (target_texts, source_texts):
            if texts is not None and (isinstance(texts, str) or len(texts) != len(edit)):
                raise BadInput(f"one text for each of the {len(edit)} images is needed, as a list.")
        known = {
            "perceptual network": self.perceptual,
            "structure network": self.structure,
            "dual encoder": self.clip,
            "mask": None if mask is None else mask_weights(mask, source),
            "target image": target,
            "target text": target_texts,
            "source text": source_texts,
        }
        return EditBatch(source, edit, {need: value for need, value in known.items() if value is not None})
