"""The items of a benchmark: edits whose images are read on demand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sfumato.metrics import METRICS, Metric, measurable

Scores = dict[str, list[float]]


@dataclass(frozen=True, eq=False)
class ItemImages:
    """The images of one edit, all of one size.

    Attributes:
        source: the image to edit, uint8 [h,w,3].
        target: ground truth of the edit, uint8 [h,w,3]; None if unknown.
        mask: region that the edit should change, bool [h,w]; None if unknown.
    """

    source: NDArray[np.uint8]
    target: NDArray[np.uint8] | None = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Item:
    """One edit.

    Attributes:
        name: name that is unique in the benchmark and usable as a file name.
        kind: category of the edit.
        split: split of the training data: "train", "test", "cells", or "" for images from elsewhere.
        source_text: prompt of the image.
        target_text: prompt describing the edited image.
        load: reads the images. Raises BadInput for images that cannot be used.
        origin: reads the source data of the images, for the stamp. Raises OSError or ValueError.
    """

    name: str
    kind: str
    split: str
    source_text: str
    target_text: str
    load: Callable[[], ItemImages] = field(repr=False)
    origin: Callable[[], bytes] = field(default=bytes, repr=False)

    @cached_property
    def stamp(self) -> str:
        """Hash (16 hexadecimal digits) of the texts and images at the first access; "" if they cannot be read.

        A result with another stamp does not count as a result of this edit.
        """
        try:
            content = self.origin()
        except (OSError, ValueError):
            return ""
        texts = f"{self.source_text!r} {self.target_text!r} ".encode()
        return sha256(texts + content).hexdigest()[:16]


class Benchmark(Protocol):
    """Protocol of a benchmark: a fixed list of edits, and the metrics to compute.

    Attributes:
        name: name of the benchmark.
        identity: identifier of the content; results with different identities must not be combined.
        items: the edits.
        metrics: the metrics of every edit, by name; a finished edit without one of them is scored again.
        headline: names of the metrics in a short table.
    """

    name: str
    identity: str
    items: Sequence[Item]
    metrics: Mapping[str, Metric]
    headline: tuple[str, ...]


def edit_metrics(*, target_image: bool = True) -> dict[str, Metric]:
    """The metrics of edits with a mask and prompts but no style image, in the order of tables.

    Args:
        target_image: whether the edits have a ground truth.
    """
    inputs = ["mask", "target text", "source text", *(["target image"] if target_image else [])]
    return {name: METRICS[name] for name in measurable(inputs)}
