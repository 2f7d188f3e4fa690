"""Everything that can be said about an edit, in one call: the networks are loaded once."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.metrics.checks import Mask, check_pair, mask_weights
from sfumato.metrics.direction import differ, directional_similarity
from sfumato.metrics.folder import local_folder
from sfumato.metrics.names import METRICS
from sfumato.metrics.pairs import WINDOW, mse, psnr, ssim
from sfumato.metrics.perceptual import PerceptualDistance, load_perceptual, lpips
from sfumato.metrics.structure import structure_distance
from sfumato.metrics.text import DualEncoder
from sfumato.metrics.vision import VisionTower

#: The dual encoder that comes with the package. It knows emoji artwork: for photographs name a CLIP.
SHIPPED = Path(__file__).parent.parent / "bundled" / "emoji" / "dual_encoder"

Named = str | os.PathLike[str] | None
Scores = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Judge:
    """The networks that an edit is measured with.

    Attributes:
        clip: compares pictures with texts.
        structure: whose keys the structure distance compares.
        perceptual: the distance called `lpips`.
    """

    clip: DualEncoder
    structure: VisionTower
    perceptual: PerceptualDistance

    @classmethod
    def load(
        cls,
        clip: Named = None,
        structure: Named = None,
        perceptual: Named = None,
        device: str | torch.device | None = None,
    ) -> "Judge":
        """Load each network from a local folder, or from a hub id that the user named.

        clip: a CLIPModel of transformers; the shipped dual encoder by default. structure: a vision transformer (DINO,
        DINOv2, ViT, CLIP); by default the image tower of `clip`. perceptual: see `load_perceptual`; by default the
        image tower of `clip` too. Raises BadInput for what cannot be opened.
        """
        folder = local_folder(SHIPPED if clip is None else clip)
        place = torch.device(device or "cpu")
        return cls(
            DualEncoder.load(folder, place),
            VisionTower(folder if structure is None else local_folder(structure)).to(place),
            load_perceptual(os.fspath(folder if perceptual is None else perceptual)).to(place),
        )

    def __call__(
        self,
        source: Float[Tensor, "b 3 h w"],
        edit: Float[Tensor, "b 3 h w"],
        *,
        target: Float[Tensor, "..."] | None = None,
        mask: Mask = None,
        source_texts: Sequence[str] | None = None,
        target_texts: Sequence[str] | None = None,
    ) -> Scores:
        """The metrics of `METRICS` that what is given allows, by name: float64 [b] each, on the CPU.

        Pictures in [0, 1]; mask 1 where the picture was to change. NaN where a number has no value for a picture: a
        mask without an inside or an outside, SSIM of less than one window, a direction between equal texts.
        Raises BadInput for shapes or values that cannot be, NonFinite for NaN in the pictures.
        """
        check_pair(source, edit)
        everywhere = mask_weights(None, source)
        scores = self._distances(source, edit, everywhere, "")
        scores["structure"] = structure_distance(self.structure, source, edit)
        if mask is not None:
            scores |= self._distances(source, edit, 1 - mask_weights(mask, source), "outside_")
        if target is not None:
            check_pair(target, edit)
            scores |= self._distances(target, edit, everywhere, "target_")
        if target_texts is not None:
            scores |= self._texts(source, edit, mask, source_texts, target_texts)
        elif source_texts is not None:
            raise BadInput("a source text alone says nothing about the edit: give the target text too.")
        return {name: scores[name].cpu().double() for name in METRICS if name in scores}

    def _distances(self, a: Tensor, b: Tensor, weight: Tensor, prefix: str) -> Scores:
        """What needs no text, over the pixels that the weight [b,h,w] leaves."""
        centres, edge = torch.zeros_like(weight), WINDOW // 2
        if min(a.shape[-2:]) >= WINDOW:
            centres[:, edge:-edge, edge:-edge] = weight[:, edge:-edge, edge:-edge]
        some, windows = (each.flatten(1).sum(1) > 0 for each in (weight, centres))
        scores = {
            "mse": _over(some, mse, a, b, weight),
            "psnr": _over(some, psnr, a, b, weight),
            "ssim": _over(windows, ssim, a, b, weight),
            "lpips": _over(some, partial(lpips, self.perceptual), a, b, weight),
        }
        return {prefix + name: values for name, values in scores.items()}

    def _texts(
        self, source: Tensor, edit: Tensor, mask: Mask, source_texts: Sequence[str] | None, target_texts: Sequence[str]
    ) -> Scores:
        for texts in (target_texts, source_texts):
            if texts is not None and (isinstance(texts, str) or len(texts) != len(edit)):
                raise BadInput(f"one text for each of the {len(edit)} pictures is needed, as a list.")
        encoder = self.clip
        wanted, after = encoder.text_features(target_texts), encoder.image_features(edit)
        scores = {"clip": _cosine(after, wanted)}
        if mask is not None:
            inside = mask_weights(mask, edit)
            black = encoder.image_features(edit * inside[:, None])
            some = (inside.flatten(1).sum(1) > 0).cpu()
            scores["clip_region"] = _over(some, _cosine, black, wanted)
        if source_texts is not None:
            given, before = encoder.text_features(source_texts), encoder.image_features(source)
            scores["clip_margin"] = scores["clip"] - _cosine(after, given)
            scores["clip_nearer"] = (scores["clip_margin"] > 0).double()
            scores["clip_direction"] = _over(
                differ(given, wanted), directional_similarity, before, after, given, wanted
            )
        return scores


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of unit features; float64, so on the CPU: MPS has none."""
    return (a.cpu().double() * b.cpu().double()).sum(-1)


def _over(rows: Tensor, metric: Callable[..., Tensor], *of: Tensor) -> Tensor:
    """The metric of those rows for which it has a value, NaN for the others."""
    scores = torch.full(rows.shape, torch.nan, dtype=torch.float64, device=rows.device)
    if rows.any():
        scores[rows] = metric(*(each[rows] for each in of))
    return scores
