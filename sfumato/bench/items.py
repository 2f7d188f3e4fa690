"""What a benchmark consists of: edits to be made, whose pictures are read when they are needed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sfumato.metrics import Metric

Scores = dict[str, list[float]]


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pixels of one edit, all of one size.

    Attributes:
        source: uint8 [h,w,3], the picture to be edited.
        target: uint8 [h,w,3], what the edit should give; None where nobody knows.
        mask: bool [h,w], where the picture is to change; None where nobody knows.
    """

    source: NDArray[np.uint8]
    target: NDArray[np.uint8] | None = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Item:
    """One edit.

    Attributes:
        name: unique in its benchmark, and a good file name.
        kind: what sort of edit it is.
        split: of the training data: "train", "test", "cells", or "" for pictures from elsewhere.
        source_text: what the picture shows.
        target_text: what it shall show.
        load: reads the pictures. Raises BadInput for those that cannot be used.
        origin: reads what the pictures are made from, as it lies on the disk. Raises OSError or ValueError.
    """

    name: str
    kind: str
    split: str
    source_text: str
    target_text: str
    load: Callable[[], Pictures] = field(repr=False)
    origin: Callable[[], bytes] = field(default=bytes, repr=False)

    @cached_property
    def stamp(self) -> str:
        """Sixteen letters for texts and pictures, those of the first look; "" where they cannot be read.

        An edit of another stamp is another edit.
        """
        try:
            content = self.origin()
        except (OSError, ValueError):
            return ""
        texts = f"{self.source_text!r} {self.target_text!r} ".encode()
        return sha256(texts + content).hexdigest()[:16]


class Benchmark(Protocol):
    """A fixed list of edits, and what is measured of them.

    Attributes:
        name: of the benchmark.
        identity: differs where results may not be put together.
        items: the edits.
        metrics: of every edit, by name.
        headline: names of those that a short table shows.
    """

    name: str
    identity: str
    items: Sequence[Item]
    metrics: Mapping[str, Metric]
    headline: tuple[str, ...]
