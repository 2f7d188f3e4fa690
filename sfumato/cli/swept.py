"""The folder of `sfumato sweep`: every edit as it arrives, then the table and the sheet of what is there."""

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
    from sfumato.images import Picture

LONGEST, SHORTEST = 512, 128
"""Longer side of a picture on the sheet in pixels: larger ones are shrunk, small ones enlarged by a whole factor."""
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Saved:
    """A setting whose edit is on the disk; `cell` is its picture on the sheet, uint8 [h,w,3]."""

    index: int
    options: Mapping[str, Any]
    scores: Mapping[str, float]
    cell: "NDArray[np.uint8]"


@dataclass(frozen=True)
class SweptFolder:
    """Where a sweep of `count` settings goes."""

    path: Path
    count: int

    @property
    def sheet(self) -> Path:
        """All edits with their settings and metrics."""
        return self.path / "sheet.png"

    @property
    def table(self) -> Path:
        """A line for each setting, with all metrics."""
        return self.path / "table.csv"

    def edit(self, index: int) -> Path:
        """One of the edits."""
        return self.path / "edits" / f"{index:03d}.png"

    def outputs(self) -> list[Path]:
        """Every file that the sweep writes."""
        return [self.sheet, self.table, *(self.edit(index) for index in range(self.count))]

    def check(self, inputs: Sequence[str]) -> None:
        """Refuse, before any work, what cannot be written, inputs, and edits that would be taken for this sweep's.

        Raises:
            BadInput: names the path.
        """
        for folder in (self.path, self.path / "edits"):
            if os.path.lexists(folder) and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
                raise BadInput(f"{folder} is no folder that may be written to: choose another with -o.")
        refuse_links_out(self.path, self.outputs())
        for path in self.outputs():
            if path.exists() and not path.is_file():
                raise BadInput(f"{path} is not an ordinary file: choose another folder with -o.")
            refuse_inputs(path, inputs)
        others = sorted({*(self.path / "edits").glob("[0-9][0-9][0-9].png")} - set(self.outputs()))
        if others:
            names = ", ".join(path.name for path in others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
            raise BadInput(
                f"{self.path / 'edits'} holds {names} beyond the {self.count} of this sweep: choose another folder, or "
                "delete what the earlier sweep left."
            )

    def make(self) -> None:
        """Raises BadInput where it cannot be made."""
        try:
            (self.path / "edits").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be made ({error.strerror}): choose another folder.") from error

    def save(self, trial: "Trial") -> Saved:
        """Write an edit."""
        from sfumato.images.sheet import shrunk

        trial.result.save(self.edit(trial.index), trial.row)
        return Saved(trial.index, trial.options, trial.scores, shrunk(trial.pixels, LONGEST))

    def clear(self) -> None:
        """Remove what an earlier sweep wrote where this one will: a sweep that is stopped is not mixed with it."""
        for path in self.outputs():
            path.unlink(missing_ok=True)

    def finish(
        self, picture: "Picture", saved: Sequence[Saved], title: str, metrics: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Write the table and the sheet of these settings; returns the table's lines in the order of the grid.

        Args:
            picture: the source.
            saved: at least one setting.
            title: of the sheet.
            metrics: of the Pareto front; the sheet shows these.
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
        write_image(self.sheet, _sheet(picture, saved, front, title, metrics))
        return rows

    def _row(self, saved: Saved, best: bool) -> dict[str, Any]:
        return {**saved.options, **saved.scores, "pareto": best, "file": f"edits/{self.edit(saved.index).name}"}


def _sheet(
    picture: "Picture", saved: Sequence[Saved], front: Sequence[bool], title: str, metrics: Sequence[str]
) -> "NDArray[np.uint8]":
    from sfumato.images import contact_sheet
    from sfumato.images.sheet import shrunk

    across = _columns(saved)
    labels = [_label(each, best, metrics) for each, best in zip(saved, front, strict=True)]
    cells = [[each.cell for each in saved[first : first + across]] for first in range(0, len(saved), across)]
    texts = [labels[first : first + across] for first in range(0, len(labels), across)]
    source = shrunk(picture.rgb, LONGEST)
    heading = f"{title}\n* on the Pareto front of {' and '.join(metrics)}"
    scale = max(1, SHORTEST // max(source.shape[:2]))
    return contact_sheet([[source], *cells], [["source"], *texts], title=heading, scale=scale)


def _columns(saved: Sequence[Saved]) -> int:
    """As many as the last name of the grid has values: one row of the sheet for each setting of the others."""
    last = list(saved[0].options)[-1]
    return len({str(each.options[last]) for each in saved})


def _label(saved: Saved, best: bool, metrics: Sequence[str]) -> str:
    setting = "  ".join(f"{name} {shown(value)}" for name, value in saved.options.items())
    numbers = "\n".join(f"{name} {shown_score(saved.scores[name])}" for name in metrics)
    return f"{'* ' if best else ''}{setting}\n{numbers}"
