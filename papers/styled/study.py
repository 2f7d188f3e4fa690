"""Common code of all parts: the model with its PARASOL file, the cells of the corpus, and image metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sfumato.api import Model
from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.metrics import Evaluator
from sfumato.style.describers import Describers

Pixels: TypeAlias = NDArray[np.uint8]
Numbers: TypeAlias = dict[str, Any]
STYLES = ("fluent-color", "fluent-flat", "noto", "noto-blob", "twemoji", "emojitwo")
"""The styles of the bundled model."""
METRICS = ("target_mse", "target_lpips", "style_mse", "content_mse", "chamfer", "sifid", "lpips")
"""Metrics per image; `target_` compares with the ground truth, `lpips` and `content_mse` with the content image."""
_CANDIDATES = 200
_BATCH = 16


@dataclass(frozen=True)
class Size:
    """The size of the measurement.

    Attributes:
        steps: steps of every run.
        cells: number of held-out cells for the comparison with the ground truth.
        translated: number of these cells that DiffuseIT edits, which is slow (a gradient in every step).
        controlled: number of cells for the effect of g_s, g_y and lambda.
        known: number of training images for the evaluation of the encoders.
        used: number of cells for interpolation, texts and diversity.
        ablated: number of cells for the ablations of the training.
    """

    steps: int = 20
    cells: int = 200
    translated: int = 16
    controlled: int = 50
    known: int = 1000
    used: int = 48
    ablated: int = 200

    @classmethod
    def quick(cls) -> "Size":
        """The smallest size that runs every part."""
        return cls(4, 4, 1, 3, 20, 2, 2)


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of one target style: contents in another style, and their ground-truth drawing in the target style.

    Attributes:
        style: the target style.
        contents: the content images y, in other styles.
        captions: captions "NAME, STYLE" of the content images.
        targets: the captions with the target style.
        truths: the ground-truth drawings of the contents in the target style, which are not in the training data.
        emoji: base emoji of each content, for clustering: cells of one emoji are not independent.
        trained: whether each content is of the kinds of emoji (subgroups) that PARASOL was trained on.
    """

    style: str
    contents: list[Pixels]
    captions: list[str]
    targets: list[str]
    truths: list[Pixels]
    emoji: list[str]
    trained: list[bool]

    def part(self, start: int, end: int) -> "Cells":
        """The cells from `start` to `end` - 1."""
        lists = {name: value[start:end] for name, value in vars(self).items() if name != "style"}
        return Cells(self.style, **lists)


@dataclass(frozen=True, eq=False)
class Study:
    """The model, a PARASOL file for it, the corpus, and the size of the measurement.

    Attributes:
        model: the diffusion model.
        parasol: file from `sfumato train parasol`.
        encoders: options of the method: the encoders that the file was trained with; empty for the bundled ones.
        data: folder of the corpus.
        folder: folder for the style images.
        size: the size of the measurement.
        evaluator: the evaluator, including the style encoder.
        describers: the style and the content encoder.
        kinds: kinds of emoji (subgroups) that PARASOL was trained on.
        ablations: PARASOL files for `papers.styled.ablations`, by their names.
    """

    model: Model
    parasol: Path
    encoders: Mapping[str, str]
    data: Path
    folder: Path
    size: Size
    evaluator: Evaluator
    describers: Describers
    kinds: tuple[str, ...] = ()
    ablations: Mapping[str, Path] = field(default_factory=dict)

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.model.network.native_size[0]

    @cached_property
    def training(self) -> CaptionedImages:
        """A fixed choice of the training images in the measured styles."""
        count = _CANDIDATES * len(STYLES)
        return CaptionedImages.open(self.data, self.side, styles=STYLES, split="train", tones=False, count=count)

    @cached_property
    def styles(self) -> dict[str, Path]:
        """The style image s of every style: the training image nearest to the mean descriptor of its style."""
        names = np.array(self.training.table["style"].to_pylist())
        found = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        for style in STYLES:
            rows = np.flatnonzero(names == style)
            vectors = self.describers.images("style", list(self.training.images[rows]))
            chosen = rows[int((vectors @ vectors.mean(0)).argmax())]
            found[style] = self.folder / f"{style}.png"
            Image.fromarray(self.training.images[chosen].transpose(1, 2, 0)).save(found[style])
        return found

    def cells(self, count: int) -> Iterator[Cells]:
        """Yield a total of `count` cells in groups of one style and at most 16 cells, those of `kinds` first.

        Raises:
            BadInput: the corpus has fewer cells.
        """
        unseen = CaptionedImages.open(self.data, self.side, styles=STYLES, split="cells", tones=False)
        known = CaptionedImages.open(self.data, self.side, styles=STYLES, split="train", tones=False, min_styles=1)
        sources = {(row["untoned"], row["style"]): n for n, row in enumerate(known.table.to_pylist())}
        found: dict[str, list[tuple[int, int]]] = {style: [] for style in STYLES}
        table = unseen.table.to_pylist()
        order = np.random.default_rng(0).permutation(len(table))
        for row in sorted(order.tolist(), key=lambda row: table[row]["subgroup"] not in self.kinds):
            others = [s for s in STYLES if s != table[row]["style"] and (table[row]["untoned"], s) in sources]
            if others:
                found[table[row]["style"]].append((row, sources[table[row]["untoned"], others[row % len(others)]]))
        for place, style in enumerate(STYLES):
            wanted = (count + len(STYLES) - 1 - place) // len(STYLES)
            if len(found[style]) < wanted:
                raise BadInput(f"{self.data} has only {len(found[style])} cells in the style {style}, not {wanted}.")
            truths, contents = zip(*found[style][:wanted], strict=True) if wanted else ((), ())
            whole = Cells(
                style,
                [known.images[n].transpose(1, 2, 0) for n in contents],
                [known.captions[n] for n in contents],
                [unseen.captions[n] for n in truths],
                [unseen.images[n].transpose(1, 2, 0) for n in truths],
                [table[n]["base"] for n in truths],
                [table[n]["subgroup"] in self.kinds for n in truths],
            )
            for start in range(0, wanted, _BATCH):
                yield whole.part(start, start + _BATCH)

    def measured(self, cells: Cells, edited: Sequence[Pixels]) -> dict[str, list[float]]:
        """The metrics `METRICS` of the images, one value per image."""
        source, edit, truth = (as_tensor(each) for each in (cells.contents, edited, cells.truths))
        style = as_tensor([np.asarray(Image.open(self.styles[cells.style]))])[0]
        found = self.evaluator(source, edit, target=truth, style=[style] * len(edit))
        return {name: found[name].tolist() for name in METRICS}

    def options(self, cells: Cells, **more: Any) -> dict[str, Any]:
        """Options of an edit by PARASOL towards the style of the cells."""
        style = {"style": {str(self.styles[cells.style]): 1.0}}
        return {"parasol": str(self.parasol), "residual": False, **self.encoders, **style, **more}


def generated(
    study: Study, style: str, content: Pixels, caption: str, seeds: Sequence[int], **more: Any
) -> list[Pixels]:
    """Images from noise, one per seed, under the descriptors of a style image and a content image.

    Args:
        study: the model and its PARASOL file.
        style: the style, one of `STYLES`.
        content: the content image.
        caption: its caption.
        seeds: seeds of the noise.
        more: further options of the method.
    """
    path = study.folder / "content.png"
    Image.fromarray(content).save(path)
    images = {"style": {str(study.styles[style]): 1.0}, "content": {str(path): 1.0}}
    method = ("parasol", {"parasol": str(study.parasol), "lam": 0, **images, **study.encoders, **more})
    return study.model.generate(caption, seed=list(seeds), methods=[method], steps=study.size.steps).pixels


def as_tensor(images: Sequence[Pixels]) -> Tensor:
    """Stack images uint8 [h,w,3] to a tensor [b,3,h,w] in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def joined(parts: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]]:
    """Concatenate the measurements of several groups."""
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}
