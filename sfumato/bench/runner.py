"""Run settings on the edits of a benchmark; finished edits are skipped, and failures are recorded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.api import Model
from sfumato.api.trial import JUDGED_PIXELS
from sfumato.bench.editors import Editor, editor
from sfumato.bench.evaluating import evaluate
from sfumato.bench.items import Benchmark, Item, ItemImages
from sfumato.bench.journal import Journal, Record
from sfumato.bench.settings import Setting
from sfumato.bench.summary import COSTS
from sfumato.errors import BadInput
from sfumato.files import write_bytes
from sfumato.images import read_image
from sfumato.metrics import Evaluator
from sfumato.paths import check_inside

BATCH = 16
IMAGES = "images"
#: Called with (number done, total, description of the current work).
Show = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Runner:
    """Runs one benchmark with one model and one evaluator.

    Attributes:
        benchmark: defines the metrics.
        items: the edits of the benchmark to run.
        model: the model that edits.
        evaluator: the evaluator that computes the metrics.
        journal: the records of finished edits.
        folder: output folder; edited images are written to IMAGES/SETTING/ITEM.png in it.
        batch: largest number of edits of one size in a batch.
    """

    benchmark: Benchmark
    items: Sequence[Item]
    model: Model
    evaluator: Evaluator
    journal: Journal
    folder: Path
    batch: int = BATCH

    def run(self, settings: Sequence[Setting], show: Show = lambda done, total, text: None) -> list[Record]:
        """Run all edits that are not finished yet; saved edits whose records lack a metric are scored again.

        Args:
            settings: the resolved settings.
            show: called after each batch of edits.

        Returns:
            The records of all settings and items, in their order.
        """
        total, done = len(settings) * len(self.items), 0
        for setting in settings:
            made = [item for item in self.items if self.journal.done(setting.key, item.name, item.stamp)]
            incomplete = [item for item in made if not self._complete(setting, item)]
            done += len(made) - len(incomplete)
            for scored in self._score_again(setting, incomplete):
                done += scored
                show(done, total, f"{setting.name} {done}/{total}")
            todo = [item for item in self.items if not self.journal.done(setting.key, item.name, item.stamp)]
            for finished in self._row(setting, todo):
                done += finished
                show(done, total, f"{setting.name} {done}/{total}")
        return [self.journal.records[setting.key, item.name] for setting in settings for item in self.items]

    def _complete(self, setting: Setting, item: Item) -> bool:
        """Whether the record of a finished edit has all metrics, including metrics that were registered later."""
        return self.benchmark.metrics.keys() <= self.journal.records[setting.key, item.name].get("scores", {}).keys()

    def _score_again(self, setting: Setting, items: Sequence[Item]) -> Iterator[int]:
        """Compute all metrics of saved edits; yields the size of each batch. A missing image counts as a failure."""
        for start in range(0, len(items), self.batch):
            yield sum(
                self._score_saved(setting, *size) for size in self._by_size(setting, items[start : start + self.batch])
            )

    def _score_saved(self, setting: Setting, items: Sequence[Item], images: Sequence[ItemImages]) -> int:
        """Score saved edits, one by one if that fails for all of them. Raises BadInput if a metric fails."""
        try:
            edits = [read_image(edited_image_path(self.folder, setting.key, item.name)).rgb for item in items]
            scores = self._scores(items, images, edits)
        except Exception as error:
            if len(items) > 1:
                return sum(self._score_saved(setting, [a], [b]) for a, b in zip(items, images, strict=True))
            if isinstance(error, BadInput):  # the saved image or its texts cannot be evaluated
                self._failed(setting, items[0], error)
                return 0
            raise BadInput(
                f"A metric fails for the saved edit of {items[0].name} by row {setting.name!r} "
                f"({type(error).__name__}: {error}). The edit and its other metrics are kept: correct the metric or "
                "remove its package, and run the command again."
            ) from error
        for item, found in zip(items, scores, strict=True):
            self.journal.add(self.journal.records[setting.key, item.name] | {"scores": found})
        return len(items)

    def _row(self, setting: Setting, todo: Sequence[Item]) -> Iterator[int]:
        """Run the given edits with one setting; yields the number of edits in each batch, failed ones included."""
        if not todo:
            return
        try:
            edits = editor(self.model, setting)
        except Exception as error:  # a pipeline that cannot be loaded fails for every item of its row
            for item in todo:
                self._failed(setting, item, error)
            yield len(todo)
            return
        together = self.batch if edits.together else 1
        for start in range(0, len(todo), together):
            some = todo[start : start + together]
            for size in self._by_size(setting, some):
                self._edit(edits, setting, *size)
            yield len(some)

    def _by_size(self, setting: Setting, items: Sequence[Item]) -> list[tuple[list[Item], list[ItemImages]]]:
        """Load the images and group the items by size; records a failure for items that cannot be loaded or scored."""
        sizes: dict[tuple[int, ...], tuple[list[Item], list[ItemImages]]] = {}
        for item in items:
            try:
                images = item.load()
                self.evaluator.clip.check_texts(self.model.plain([item.source_text, item.target_text]))
            except Exception as error:
                self._failed(setting, item, error)
                continue
            group = sizes.setdefault(images.source.shape, ([], []))
            group[0].append(item)
            group[1].append(images)
        return list(sizes.values())

    def _edit(self, edits: Editor, setting: Setting, items: list[Item], images: list[ItemImages]) -> None:
        """Edit and score a batch; if editing fails, repeat its items one by one, to lose only failing items."""
        try:
            edited = edits.edit(items, images)
            for item, before, after in zip(items, images, edited.pixels, strict=True):
                if before.source.shape != after.shape:
                    height, width = after.shape[:2]
                    raise BadInput(f"{item.name}: the edited image has another size, {width} x {height} pixels.")
        except Exception as error:
            if len(items) == 1:
                self._failed(setting, items[0], error)
                return
            for item, each in zip(items, images, strict=True):
                self._edit(edits, setting, [item], [each])
            return
        cost = {name: getattr(edited, name) / len(items) for name in COSTS}
        self._score_new(setting, items, images, edited.pixels, cost)

    def _score_new(
        self,
        setting: Setting,
        items: Sequence[Item],
        images: Sequence[ItemImages],
        edits: Sequence[NDArray[np.uint8]],
        cost: dict[str, float],
    ) -> None:
        """Score and record finished edits; if that fails, score them one by one without repeating the edits."""
        try:
            scores = self._scores(items, images, edits)
        except Exception as error:
            if len(items) == 1:
                self._failed(setting, items[0], error)
                return
            for item, each, pixels in zip(items, images, edits, strict=True):
                self._score_new(setting, [item], [each], [pixels], cost)
            return
        for item, pixels, found in zip(items, edits, scores, strict=True):
            self._finished(setting, item, pixels, cost, found)

    def _scores(
        self, items: Sequence[Item], images: Sequence[ItemImages], edits: Sequence[NDArray[np.uint8]]
    ) -> list[dict[str, float]]:
        """The metrics of each edit, computed in batches of at most `JUDGED_PIXELS` pixels."""
        height, width = edits[0].shape[:2]
        together, scores = max(1, JUDGED_PIXELS // (height * width)), []
        for start in range(0, len(items), together):
            part = slice(start, start + together)
            given = items[part], images[part], edits[part]
            found = evaluate(self.evaluator, self.benchmark.metrics, *given, self.model.plain)
            scores += [{name: all_of[n] for name, all_of in found.items()} for n in range(len(items[part]))]
        return scores

    def _finished(
        self, setting: Setting, item: Item, pixels: NDArray[np.uint8], cost: dict[str, float], scores: dict[str, float]
    ) -> None:
        """Write the image, then its line in the journal, so that every recorded edit has its image."""
        path = edited_image_path(self.folder, setting.key, item.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, as_png(pixels))
        stamp = {"stamp": item.stamp} if item.stamp else {}
        self.journal.add({"setting": setting.key, "item": item.name, **stamp, **cost, "scores": scores})

    def _failed(self, setting: Setting, item: Item, error: Exception) -> None:
        message = (str(error).strip().splitlines() or ["no message"])[0]
        sentence = message if isinstance(error, BadInput) else f"{type(error).__name__}: {message}"
        # a path in it may contain undecodable bytes, with which a report could not be written
        writable = sentence.encode("utf-8", "backslashreplace").decode()
        self.journal.add({"setting": setting.key, "item": item.name, "error": writable})


def limited(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, taken alternately from all kinds; a larger limit gives a superset."""
    kinds: dict[str, list[Item]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item)
    alternating = [item for item in chain.from_iterable(zip_longest(*kinds.values())) if item is not None]
    return alternating if limit is None else alternating[:limit]


def edited_image_path(folder: Path, setting: str, item: str) -> Path:
    """Path of an edited image. Raises BadInput if the item's name, or a link, leads out of the folder."""
    check_inside(folder, edited_image_name(setting, item))
    return folder / edited_image_name(setting, item)


def edited_image_name(setting: str, item: str) -> str:
    """Path of an edited image relative to the folder."""
    return f"{IMAGES}/{setting}/{item}.png"


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image uint8 [h,w,3] as PNG."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
