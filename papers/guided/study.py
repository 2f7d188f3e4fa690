"""Common code of all parts: model, size of the measurement, images of the corpus, and pixel measurements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from papers.kept import kept as kept_in
from sfumato.api import Model
from sfumato.bench.evaluating import evaluator_fingerprint
from sfumato.data.corpus import TABLE
from sfumato.data.dataset import CaptionedImages
from sfumato.metrics import Evaluator

Pixels: TypeAlias = NDArray[np.uint8]
Numbers: TypeAlias = dict[str, Any]
STYLES = ("noto", "twemoji", "fluent-flat", "emojitwo", "fluent-color", "noto-blob")
INK = 0.15
"""Smallest difference from white of a pixel that belongs to an object, as a fraction of the range."""
READ_DELTAS = ("bottleneck", "attributes")
"""Parts that depend on the files of the delta-h."""
SHARE = 0.6
"""Side of the objects that are moved and resized, as a share of the image."""


@dataclass(frozen=True)
class Size:
    """The size of the measurement.

    Attributes:
        steps: steps of every run, except those of delta-h, which has its own.
        generated: number of generated images for the claim about sigma = 0.
        faces: number of images that are edited with the delta-h.
        attributes: number of true pairs per attribute.
        pairs: number of triples of images for the claim about keys and class tokens.
        translated: number of images that DiffuseIT edits.
        moved: number of images whose objects are moved and resized.
        swapped: number of images that pix2pix-zero edits.
        prompts: number of prompts with two objects.
    """

    steps: int = 15
    generated: int = 8
    faces: int = 24
    attributes: int = 24
    pairs: int = 200
    translated: int = 24
    moved: int = 100
    swapped: int = 24
    prompts: int = 200

    @classmethod
    def quick(cls) -> "Size":
        """The smallest size that runs every part."""
        return cls(4, 2, 3, 2, 4, 2, 2, 2, 2)


@dataclass(frozen=True, eq=False)
class Study:
    """The model, the delta-h trained for it, the corpus, the size of the measurement and the evaluator.

    Attributes:
        model: the model.
        deltas: file of the delta-h of every attribute (`papers.guided.attributes.ATTRIBUTES`), by name.
        data: folder of the corpus.
        size: size of the measurement.
        evaluator: networks of all scores.
    """

    model: Model
    deltas: Mapping[str, Path]
    data: Path
    size: Size
    evaluator: Evaluator

    def images(self, names: Sequence[str] | None, count: int | None, **options: Any) -> tuple[list[Pixels], list[str]]:
        """A fixed choice of images of the corpus at the model's size, with their captions "NAME, STYLE"."""
        side = self.model.network.native_size[0]
        found = CaptionedImages.open(self.data, side, styles=STYLES, names=names, count=count, **options)
        return [each.transpose(1, 2, 0) for each in found.images], found.captions

    def drawings(self, names: Sequence[str]) -> dict[str, Pixels]:
        """All drawings with these names, by caption."""
        images, captions = self.images(names, None)
        return dict(zip(captions, images, strict=True))


def kept(
    study: Study, out: Path, name: str, version: int, work: Callable[[Study], Numbers], sizes: Sequence[str]
) -> Numbers:
    """The numbers of a part, read from `out/NAME.json` if they belong to the same data, networks and settings.

    Args:
        study: what the part measures.
        out: folder of the parts.
        name: name of the part.
        version: version of the measurement; increase it when the measurement changes.
        work: measures the part.
        sizes: names of the fields of the size on which the part depends.
    """
    path = out / f"{name}.json"
    size = {each: asdict(study.size)[each] for each in sizes}
    belongs = {"model": study.model.network.fingerprint(), "size": size, "version": version}
    files = {"corpus": study.data / TABLE, **(study.deltas if name in READ_DELTAS else {})}
    belongs |= {each: sha256(file.read_bytes()).hexdigest() for each, file in files.items()}
    belongs |= {"evaluator": evaluator_fingerprint(study.evaluator)}
    return kept_in(path, belongs, lambda: work(study))


def ink(pixels: Pixels) -> NDArray[np.bool_]:
    """The exact mask of an object on white, [h,w]."""
    return np.asarray((255 - pixels.astype(float)).max(axis=2) / 255 > INK)


def centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """(x, y) of the centroid of a mask in [0, 1]; NaN for an empty one."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return float("nan"), float("nan")
    return float(columns.mean() + 0.5) / mask.shape[1], float(rows.mean() + 0.5) / mask.shape[0]


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 for two empty ones."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def colour(pixels: Pixels, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean colour within a mask, RGB in [0, 1]; white for an empty one."""
    return np.asarray(pixels[mask].mean(axis=0) / 255 if mask.any() else np.ones(3))


def rms(one: Pixels, other: Pixels) -> float:
    """Root mean square difference of two images, as a fraction of the range."""
    return float(np.sqrt(((one.astype(float) - other) ** 2).mean()) / 255)


def smaller(pixels: Pixels, share: float = SHARE) -> Pixels:
    """The image scaled down and centred on white."""
    side = pixels.shape[0]
    inner = round(share * side)
    first = (side - inner) // 2
    found = np.full_like(pixels, 255)
    scaled = Image.fromarray(pixels).resize((inner, inner), Image.Resampling.LANCZOS)
    found[first : first + inner, first : first + inner] = np.asarray(scaled)
    return found


def as_tensor(images: Sequence[Pixels]) -> Tensor:
    """Images as float32 [n,3,h,w] in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def features(study: Study, images: Sequence[Pixels]) -> Tensor:
    """Unit features of images under the dual encoder, float64 [n,d]."""
    found = study.evaluator.clip.image_features(as_tensor(images)).double()
    return found / found.norm(dim=1, keepdim=True)


def texts(study: Study, captions: Sequence[str]) -> Tensor:
    """Unit features of texts under the dual encoder, float64 [n,d]."""
    found = study.evaluator.clip.text_features(list(captions)).double()
    return found / found.norm(dim=1, keepdim=True)
