"""Settings over edits: skips what is done, notes what fails, never stops for one bad item."""

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
from sfumato.bench.items import Benchmark, Item, Pictures
from sfumato.bench.journal import Journal, Record
from sfumato.bench.settings import Setting
from sfumato.bench.summary import COSTS
from sfumato.errors import BadInput
from sfumato.files import write_bytes
from sfumato.metrics import Evaluator
from sfumato.paths import check_inside

BATCH = 16
PICTURES = "pictures"
#: Called with (done, total, what is being done).
Show = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Runner:
    """One benchmark, one model, one evaluator.

    Attributes:
        benchmark: names the metrics.
        items: those of its edits that are made.
        model: edits.
        evaluator: looks at the edits.
        journal: what has been done.
        folder: where the edited pictures go, as PICTURES/SETTING/ITEM.png.
        batch: most edits of one size that are made together.
    """

    benchmark: Benchmark
    items: Sequence[Item]
    model: Model
    evaluator: Evaluator
    journal: Journal
    folder: Path
    batch: int = BATCH

    def run(self, settings: Sequence[Setting], show: Show = lambda done, total, text: None) -> list[Record]:
        """Everything that is not done yet; the records of all settings and items, in their order."""
        total, done = len(settings) * len(self.items), 0
        for setting in settings:
            todo = [item for item in self.items if not self.journal.done(setting.key, item.name, item.stamp)]
            done += len(self.items) - len(todo)
            for finished in self._row(setting, todo):
                done += finished
                show(done, total, f"{setting.name} {done}/{total}")
        return [self.journal.records[setting.key, item.name] for setting in settings for item in self.items]

    def _row(self, setting: Setting, todo: Sequence[Item]) -> Iterator[int]:
        """Make all edits of a setting; yields how many were finished, failed ones included."""
        if not todo:
            return
        try:
            edits = editor(self.model, setting)
        except Exception as error:  # a pipeline that cannot be loaded is a fault of every item of its row
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

    def _by_size(self, setting: Setting, items: Sequence[Item]) -> list[tuple[list[Item], list[Pictures]]]:
        """The items with their pictures, those of one size together; one that cannot be read has failed."""
        sizes: dict[tuple[int, ...], tuple[list[Item], list[Pictures]]] = {}
        for item in items:
            try:
                pictures = item.load()
            except Exception as error:
                self._failed(setting, item, error)
                continue
            group = sizes.setdefault(pictures.source.shape, ([], []))
            group[0].append(item)
            group[1].append(pictures)
        return list(sizes.values())

    def _edit(self, edits: Editor, setting: Setting, items: list[Item], pictures: list[Pictures]) -> None:
        """Edit and score all together; where that fails, one by one, so that only the bad one is lost."""
        try:
            edited = edits.edit(items, pictures)
            for item, before, after in zip(items, pictures, edited.pixels, strict=True):
                if before.source.shape != after.shape:
                    height, width = after.shape[:2]
                    raise BadInput(f"{item.name}: the edit has another size, {width} x {height} pixels.")
            scores = self._scores(items, pictures, edited.pixels)
        except Exception as error:
            if len(items) == 1:
                self._failed(setting, items[0], error)
                return
            for item, each in zip(items, pictures, strict=True):
                self._edit(edits, setting, [item], [each])
            return
        for n, item in enumerate(items):
            cost = {name: getattr(edited, name) / len(items) for name in COSTS}
            self._finished(setting, item, edited.pixels[n], cost, scores[n])

    def _scores(
        self, items: Sequence[Item], pictures: Sequence[Pictures], edits: Sequence[NDArray[np.uint8]]
    ) -> list[dict[str, float]]:
        """The metrics of each edit; a few at a time where they are large."""
        height, width = edits[0].shape[:2]
        together, scores = max(1, JUDGED_PIXELS // (height * width)), []
        for start in range(0, len(items), together):
            part = slice(start, start + together)
            found = evaluate(self.evaluator, self.benchmark.metrics, items[part], pictures[part], edits[part])
            scores += [{name: all_of[n] for name, all_of in found.items()} for n in range(len(items[part]))]
        return scores

    def _finished(
        self, setting: Setting, item: Item, pixels: NDArray[np.uint8], cost: dict[str, float], scores: dict[str, float]
    ) -> None:
        """The picture first, then the line that says that it is there."""
        path = picture_path(self.folder, setting.key, item.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, as_png(pixels))
        stamp = {"stamp": item.stamp} if item.stamp else {}
        self.journal.add({"setting": setting.key, "item": item.name, **stamp, **cost, "scores": scores})

    def _failed(self, setting: Setting, item: Item, error: Exception) -> None:
        said = (str(error).strip().splitlines() or ["no message"])[0]
        sentence = said if isinstance(error, BadInput) else f"{type(error).__name__}: {said}"
        # a path in it may hold bytes that are no text, which no report can be written with
        writable = sentence.encode("utf-8", "backslashreplace").decode()
        self.journal.add({"setting": setting.key, "item": item.name, "error": writable})


def limited(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, the kinds in turn; a larger limit adds items and takes none away."""
    kinds: dict[str, list[Item]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item)
    in_turn = [item for item in chain.from_iterable(zip_longest(*kinds.values())) if item is not None]
    return in_turn if limit is None else in_turn[:limit]


def picture_path(folder: Path, setting: str, item: str) -> Path:
    """Where an edited picture lies. Raises BadInput where the item's name, or a link, leads out of the folder."""
    check_inside(folder, picture_name(setting, item))
    return folder / picture_name(setting, item)


def picture_name(setting: str, item: str) -> str:
    """The same, relative to the folder."""
    return f"{PICTURES}/{setting}/{item}.png"


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture uint8 [h,w,3] as a PNG file."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
