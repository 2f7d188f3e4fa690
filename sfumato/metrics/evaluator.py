"""Computation of all metrics of an edit in one call, with networks that are loaded once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.devices import pick_device
from sfumato.errors import BadInput
from sfumato.metrics.checks import Mask, check_pair, check_rgb, mask_weights
from sfumato.metrics.edit_batch import EditBatch, ImageEncoder
from sfumato.metrics.frozen import local_folder
from sfumato.metrics.perceptual import PerceptualDistance, load_perceptual
from sfumato.metrics.registry import METRICS, measure
from sfumato.metrics.text import DualEncoder
from sfumato.metrics.vision import VisionEncoder

#: The bundled dual encoder. It is trained on emoji artwork only; use a CLIP model for photographs.
SHIPPED = Path(__file__).parent.parent / "bundled" / "emoji" / "dual_encoder"

Named = str | os.PathLike[str] | None


@dataclass(frozen=True, eq=False)
class Evaluator:
    """The networks that score an edit.

    Attributes:
        clip: dual encoder that compares images with texts.
        structure: vision transformer of the structure distance.
        perceptual: LPIPS network.
        style: encoder of style descriptors, such as `sfumato.style.load_style_encoder` returns; None for none.
    """

    clip: DualEncoder
    structure: VisionEncoder
    perceptual: PerceptualDistance
    style: ImageEncoder | None = None

    @classmethod
    def load(
        cls,
        clip: Named = None,
        structure: Named = None,
        perceptual: Named = None,
        device: str | torch.device | None = None,
        style: ImageEncoder | None = None,
    ) -> "Evaluator":
        """Load each network from a local folder or a hub id.

        Args:
            clip: a CLIPModel of transformers; by default the bundled dual encoder.
            structure: a vision transformer (DINO, DINOv2, ViT, CLIP); by default the image encoder of `clip`.
            perceptual: see `load_perceptual`; by default the image encoder of `clip`.
            device: device of all networks, "auto" for CUDA if available; by default the CPU.
            style: encoder of style descriptors, already loaded; None for no style descriptors.

        Raises:
            BadInput: a network cannot be opened, or there is no such device.
        """
        folder = local_folder(SHIPPED if clip is None else clip)
        place = pick_device(device or "cpu")
        return cls(
            DualEncoder.load(folder, place),
            VisionEncoder(folder if structure is None else local_folder(structure)).to(place),
            load_perceptual(os.fspath(folder if perceptual is None else perceptual)).to(place),
            style,
        )

    def __call__(
        self, source: Float[Tensor, "b 3 h w"], edit: Float[Tensor, "b 3 h w"], **inputs: Any
    ) -> dict[str, Tensor]:
        """Compute all metrics of `METRICS` whose needs the arguments meet.

        Args:
            source: images before the edit, in [0, 1].
            edit: images after the edit, in [0, 1].
            inputs: the keyword arguments of `batch`.

        Returns:
            Name -> float64 [b] on the CPU. NaN where a metric is undefined for an image: an empty or full mask, fewer
            pixels than one window of SSIM, or equal texts for the directional similarity.

        Raises:
            BadInput: as `batch`.
            NonFinite: as `batch`.
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
        style: Sequence[Float[Tensor, "3 _ _"]] | None = None,
    ) -> EditBatch:
        """Combine edits and these networks into the batch that metrics are computed from.

        Args:
            source: images before the edit, in [0, 1].
            edit: images after the edit, in [0, 1].
            target: ground truth of the edits, in [0, 1].
            mask: [h,w] or [b,h,w] in [0, 1], 1 in the region that the edit should change.
            source_texts: the prompt of each source image; requires `target_texts`.
            target_texts: the prompt describing each edited image.
            style: the style image of each edit, in [0, 1], of any size.

        Raises:
            BadInput: shapes do not match, values are out of range, or a text is missing.
            NonFinite: an image contains NaN or infinity.
        """
        check_pair(source, edit)
        if target is not None:
            check_pair(target, edit)
        if source_texts is not None and target_texts is None:
            raise BadInput("a source text is used only together with a target text: give the target text too.")
        for texts in (target_texts, source_texts):
            if texts is not None and (isinstance(texts, str) or len(texts) != len(edit)):
                raise BadInput(f"one text for each of the {len(edit)} images is needed, as a list.")
        if style is not None and len(style) != len(edit):
            raise BadInput(f"one style image for each of the {len(edit)} images is needed, as a list.")
        for image in style or ():
            check_rgb(image[None])
        known = {
            "perceptual network": self.perceptual,
            "structure network": self.structure,
            "dual encoder": self.clip,
            "mask": None if mask is None else mask_weights(mask, source),
            "target image": target,
            "target text": target_texts,
            "source text": source_texts,
            "style image": style,
            "style encoder": self.style,
        }
        return EditBatch(source, edit, {need: value for need, value in known.items() if value is not None})
