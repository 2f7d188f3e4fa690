"""The output folder of `sfumato sweep`: edits, table and contact sheet."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.metrics import shown_score
from sfumato.cli.outputs import refuse_inputs, refuse_links_out
from sfumato.cli.report import shown
from sfumato.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sfumato.api.trial import Trial
    from sfumato.images import LoadedImage

LONGEST, SHORTEST = 512, 128
"""Range in pixels for the longer side of an image on the sheet: larger images are scaled down, smaller ones are
enlarged by an integer factor."""
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Saved:
    """A setting whose edit has been written.

    Attributes:
        index: index of the setting in the grid.
        options: the setting.
        scores: metrics by name.
        cell: the edit on the sheet, uint8 [h,w,3].
        notes: remarks on the edit and its file.
    """

    index: int
    options: Mapping[str, Any]
    scores: Mapping[str, float]
    cell: "NDArray[np.uint8]"
    notes: Sequence[str]


@dataclass(frozen=True)
class SweptFolder:
    """Output folder of a sweep of `count` settings; with `recipe`, the edits have their recipes."""

    path: Path
    count: int
    recipe: bool = True

    @property
    def sheet(self) -> Path:
        """Path of the contact sheet: all edits with their settings and metrics."""
        return self.path / "sheet.png"

    @property
    def table(self) -> Path:
        """Path of the table: one row per setting, with all metrics."""
        return self.path / "table.csv"

    def edit(self, index: int) -> Path:
        """Path of one edit."""
        return self.path / "edits" / f"{index:03d}.png"

    def outputs(self) -> list[Path]:
        """Paths of all files that the sweep writes."""
        return [self.sheet, self.table, *(self.edit(index) for index in range(self.count))]

    def check(self, inputs: Sequence[str]) -> None:
        """Check, before any work, that all outputs can be written.

        Raises:
            BadInput: a path cannot be written or is an input, or the folder contains other edits; the message names the
                path.
        """
        for folder in (self.path, self.path / "edits"):
            if os.path.lexists(folder) and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
                raise BadInput(f"{folder} is not a folder that can be written to: choose another with -o.")
        refuse_links_out(self.path, self.outputs())
        for path in self.outputs():
            if path.exists() and not path.is_file():
                raise BadInput(f"{path} is not a regular file: choose another folder with -o.")
            refuse_inputs(path, inputs)
        others = sorted({*(self.path / "edits").glob("[0-9][0-9][0-9].png")} - set(self.outputs()))
        if others:
            names = ", ".join(path.name for path in others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
            raise BadInput(
                f"{self.path / 'edits'} contains {names} in addition to the {self.count} edits of this sweep: choose "
                "another folder, or delete the files of the earlier sweep."
            )

    def make(self) -> None:
        """Create the folder. Raises BadInput if that fails."""
        try:
            (self.path / "edits").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be created ({error.strerror}): choose another folder.") from error

    def save(self, trial: "Trial") -> Saved:
        """Write the edit of one setting."""
        from sfumato.images.sheet import shrunk

        note = trial.result.save(self.edit(trial.index), trial.row, recipe=self.recipe)
        notes = [*trial.result.report["notes"], *([f"{self.path / 'edits'}: {note}."] if note else [])]
        return Saved(trial.index, trial.options, trial.scores, shrunk(trial.pixels, LONGEST), notes)

    def clear(self) -> None:
        """Remove the outputs of an earlier sweep, so that they are not mixed with those of an interrupted sweep."""
        for path in self.outputs():
            path.unlink(missing_ok=True)

    def finish(
        self, image: "LoadedImage", saved: Sequence[Saved], title: str, metrics: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Write the table and the sheet; return the rows of the table in the order of the grid.

        Args:
            image: the source image.
            saved: at least one setting.
            title: title of the sheet.
            metrics: metrics of the Pareto front, which the sheet shows.
        """
        import csv
        import io

        from sfumato.api.trial import pareto
        from sfumato.files import write_text
        from sfumato.images import write_image

        saved = sorted(saved, key=lambda each: each.index)
        front = pareto([each.scores for each in saved], metrics)
        rows = [self._row(each, best) for each, best in zip(saved, front, strict=True)]
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
        write_text(self.table, text.getvalue())
        write_image(self.sheet, _sheet(image, saved, front, title, metrics))
        return rows

    def _row(self, saved: Saved, best: bool) -> dict[str, Any]:
        return {**saved.options, **saved.scores, "pareto": best, "file": f"edits/{self.edit(saved.index).name}"}


def _sheet(
    image: "LoadedImage", saved: Sequence[Saved], front: Sequence[bool], title: str, metrics: Sequence[str]
) -> "NDArray[np.uint8]":
    from sfumato.images import contact_sheet
    from sfumato.images.sheet import shrunk

    across = _columns(saved)
    labels = [_label(each, best, metrics) for each, best in zip(saved, front, strict=True)]
    cells = [[each.cell for each in saved[first : first + across]] for first in range(0, len(saved), across)]
    texts = [labels[first : first + across] for first in range(0, len(labels), across)]
    source = shrunk(image.rgb, LONGEST)
    heading = f"{title}\n* on the Pareto front of {' and '.join(metrics)}"
    scale = max(1, SHORTEST // max(source.shape[:2]))
    return contact_sheet([[source], *cells], [["source"], *texts], title=heading, scale=scale)


def _columns(saved: Sequence[Saved]) -> int:
    """Number of values of the last parameter: each row of the sheet has one setting of the other parameters."""
    last = list(saved[0].options)[-1]
    return len({str(each.options[last]) for each in saved})


def _label(saved: Saved, best: bool, metrics: Sequence[str]) -> str:
    setting = "  ".join(f"{name} {shown(value)}" for name, value in saved.options.items())
    numbers = "\n".join(f"{name} {shown_score(saved.scores[name])}" for name in metrics)
    return f"{'* ' if best else ''}{setting}\n{numbers}"
