"""Evaluate the style and the content encoder on the emoji corpus by retrieval and linear probes.

    python -m sfumato.train.style_report data/emoji --style runs/emoji-style/export --content runs/emoji-content/export

Every image of the split is a query; the database consists of the training images and the images of the split. Style
retrieval is correct if the nearest image with another content has the style of the query, content retrieval if the
nearest image in another style has its content.

Linear probes (ridge regression to one-hot labels on the training images) predict the style and the group of the emoji
from each descriptor. An accuracy near the share of the largest class means that the descriptor does not encode the
label.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.data.corpus import TABLE
from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.files import printable, write_text
from sfumato.style.describers import Describers
from sfumato.train.content import content_caption
from sfumato.train.contrast import numbers
from sfumato.train.report_options import check_options

SPLITS = ("test", "cells")
_RIDGE = 1e-3
"""Ridge penalty of the probe, per training image."""


@dataclass(frozen=True, eq=False)
class Described:
    """Descriptors and labels of images.

    Attributes:
        vectors: unit descriptors by modality, [n,d].
        labels: integer labels by name: "content", "style" and "group", [n]; the numbering is the same for all splits.
    """

    vectors: Mapping[str, Float[Tensor, "n d"]]
    labels: Mapping[str, Int64[Tensor, " n"]]

    def take(self, rows: Tensor) -> "Described":
        """Selected rows."""
        return Described(
            {name: each[rows] for name, each in self.vectors.items()},
            {name: each[rows] for name, each in self.labels.items()},
        )


def described(parts: Sequence[CaptionedImages], encoders: Describers) -> Described:
    """Descriptors and labels of the images of several datasets, concatenated."""
    pixels = torch.cat([torch.from_numpy(part.images) for part in parts])
    vectors = {
        name: torch.cat([encoders.of(name).image_features(some.float() / 255).cpu() for some in pixels.split(256)])
        for name in ("content", "style")
    }
    columns = {"content": "untoned", "style": "style", "group": "group"}
    values = {
        name: [each for part in parts for each in part.table[column].to_pylist()] for name, column in columns.items()
    }
    return Described(vectors, {name: numbers(each) for name, each in values.items()})


def found_first(queries: Float[Tensor, "q d"], database: Float[Tensor, "n d"], right: Tensor, allowed: Tensor) -> float:
    """Share of the queries whose most similar allowed image is correct; queries without any are excluded.

    Args:
        queries: unit descriptors.
        database: unit descriptors.
        right: bool [q,n], the correct images: those with the same label.
        allowed: bool [q,n], the images to choose from.
    """
    similarity = (queries @ database.T).masked_fill(~allowed, -torch.inf)
    possible = (right & allowed).any(1)
    top = similarity.argmax(1)
    return float(right[torch.arange(len(top)), top][possible].double().mean())


def retrieval(everything: Described, rows: Tensor, modality: str) -> float:
    """Share of the queries `rows` whose nearest image with another content (style) has the same style (content)."""
    other = "style" if modality == "content" else "content"
    mine, theirs = everything.labels[modality], everything.labels[other]
    allowed = theirs[rows][:, None] != theirs[None]
    right = mine[rows][:, None] == mine[None]
    return found_first(everything.vectors[modality][rows], everything.vectors[modality], right, allowed)


def probe(
    train: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], test: Float[Tensor, "m d"], wanted: Int64[Tensor, " m"]
) -> float:
    """Accuracy on `test` of ridge regression from `train` to one column per label."""
    x, y = (torch.cat([each.double(), torch.ones(len(each), 1)], dim=1) for each in (train, test))
    target = torch.nn.functional.one_hot(labels).double()
    weights = torch.linalg.solve(x.T @ x + _RIDGE * len(x) * torch.eye(x.shape[1]), x.T @ target)
    return float(((y @ weights).argmax(1) == wanted).double().mean())


def texts_found(data: CaptionedImages, own: Described, encoders: Describers) -> dict[str, float]:
    """Share of the captions (style names) whose nearest image of the split has that content (style)."""
    texts = {
        "content": [content_caption(data, row) for row in range(len(data))],
        "style": data.table["style"].to_pylist(),
    }
    found = {}
    for name, each in texts.items():
        similarity = encoders.of(name).text_features(each).cpu() @ own.vectors[name].T
        right = own.labels[name][similarity.argmax(1)] == own.labels[name]
        found[f"{name} by its name"] = float(right.double().mean())
    return found


def report(
    folder: Path, encoders: Describers, splits: Sequence[str] = SPLITS, count: int | None = None
) -> dict[str, Any]:
    """Compute all measurements; see the docstring of this module.

    Args:
        folder: folder of the emoji corpus.
        encoders: the encoders.
        splits: the splits whose images are the queries.
        count: largest number of training images, a random choice; None for all.

    Raises:
        BadInput: the folder is not the emoji corpus, `count` is below 1, or a split has no image.
    """
    if not (folder / TABLE).is_file():
        raise BadInput(f"{printable(folder)} is not the emoji corpus: build it with `sfumato data emoji`.")
    size = encoders.style.size
    parts = [CaptionedImages.open(folder, size=size, tones=False, split=name) for name in splits]
    train = CaptionedImages.open(folder, size=size, tones=False, split="train", count=count)
    began = time.monotonic()
    everything = described([train, *parts], encoders)
    rate = len(everything.labels["style"]) / (time.monotonic() - began)
    found: dict[str, Any] = {"training images": len(train), "images per second, both encoders": rate}
    first = len(train)
    for split, part in zip(splits, parts, strict=True):
        found[split] = _of_split(everything, len(train), torch.arange(first, first + len(part)), part, encoders)
        first += len(part)
    return found


def _of_split(
    everything: Described, train: int, own: Tensor, data: CaptionedImages, encoders: Describers
) -> dict[str, float]:
    """The measurements with the rows `own` as queries; the first `train` rows are the training images."""
    inside = everything.take(torch.cat([torch.arange(train), own]))
    queries = torch.arange(train, train + len(own))
    figures: dict[str, float] = {"images": len(own)}
    figures |= {f"right {name} first": retrieval(inside, queries, name) for name in ("style", "content")}
    figures |= texts_found(data, everything.take(own), encoders)
    for label in ("style", "group"):
        known = everything.labels[label]
        for name in ("style", "content"):
            vectors = everything.vectors[name]
            figures[f"probe: {label} from {name}"] = probe(vectors[:train], known[:train], vectors[own], known[own])
        figures[f"probe: {label}, largest class"] = float(torch.bincount(known[own]).max() / len(own))
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate the encoders, print the results and write them to a file."""
    parser = argparse.ArgumentParser(description="Measure a style and a content encoder on the emoji corpus.")
    parser.add_argument("data", type=Path, help="folder of the corpus")
    parser.add_argument("--style", help="folder of a style encoder; default: the bundled one")
    parser.add_argument("--content", help="folder of a CLIP; default: the bundled one")
    parser.add_argument("--count", type=int, help="largest number of training images; default: all")
    parser.add_argument("--out", type=Path, help="JSON file")
    choice = parser.parse_args(argv)
    try:
        check_options(choice)
        encoders = Describers.load(choice.content, choice.style)
        figures = json.dumps(report(choice.data, encoders, count=choice.count), indent=1)
        if choice.out:
            write_text(choice.out, figures + "\n")
    except BadInput as error:
        parser.exit(2, f"{error}\n")
    print(figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
