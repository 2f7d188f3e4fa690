"""Kill `sfumato index` with SIGKILL at random times, and check that no row of the index is lost or there twice.

    python -m benchmarks.index_kills --kills 50

Ten kills apply to one index, then a new one is begun. Before every run there are `PENDING` images to index: new ones,
and known ones whose modification time has changed, so that their rows are replaced. After every kill, all rows that
were there before must be there once, with the same descriptors. At the end the command runs without a kill, and its
rows are compared with those of an index that was built in one run.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfumato.cli.parser import integer
from sfumato.cli.report import say
from sfumato.retrieval.columns import VECTORS
from sfumato.retrieval.database import TABLE
from sfumato.retrieval.index import ImageIndex

PENDING, TOUCHED = 12, 2
"""Images to index in every run, and how many of them are known."""
PHASES = ("create", "write", "start", "write", "end", "write", "write", "start", "write", "end")
"""When the runs of an index are killed: while the table is created, between or during writes, before the first write,
or after the last one, while files are merged."""
_PAUSE, _AFTER = 0.002, 0.1
"""Seconds between two looks at the table, and at most from the beginning of a phase to the kill."""
_TOLERANCE = 1e-5
"""Largest difference of descriptors that were computed in batches of other sizes."""


@dataclass
class Trial:
    """One index, the folder of its images, and the rows that were seen.

    Attributes:
        place: parent of both.
        options: further options of the command.
        draw: source of all random numbers.
        known: rows by path, as they were after the last kill.
        counts: kills before, during and after the writes of a run; rows; rows lost, twice, and other ones at the end.
        number: number of images that were made.
    """

    place: Path
    options: Sequence[str]
    draw: random.Random
    known: dict[str, Any] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    number: int = 0

    @property
    def index(self) -> Path:
        """Folder of the index."""
        return self.place / "index"

    def prepare(self) -> None:
        """Make new images and touch known ones, until `PENDING` have to be indexed."""
        folder = self.place / "images"
        folder.mkdir(parents=True, exist_ok=True)
        known = sorted(self.known)
        for path in self.draw.sample(known, min(TOUCHED, len(known))):
            os.utime(path, ns=(time.time_ns(), time.time_ns()))
        for _ in range(PENDING - len(self.pending())):
            pixels = np.random.default_rng(self.number).integers(0, 256, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{self.number:04}.png")
            self.number += 1

    def pending(self) -> list[Path]:
        """The images that are not in the index, or whose modification time is another there."""
        paths = (self.place / "images").iterdir()
        return [each for each in paths if self.known.get(str(each), {}).get("modified") != each.stat().st_mtime_ns]

    def start(self, index: Path, batch: int) -> "subprocess.Popen[bytes]":
        """Start the command."""
        words = [sys.executable, "-m", "sfumato", "index", str(self.place / "images"), "--out", str(index)]
        words += ["--batch", str(batch), *self.options]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def kill(self, phase: str, starting: float) -> float:
        """Run the command until one run is killed in a phase, and check the rows.

        Args:
            phase: one of `PHASES`.
            starting: seconds until a run opens the index.

        Returns:
            Seconds from the start of the run to the phase.
        """
        while True:
            self.prepare()
            batch, before, began = self.draw.randint(1, 3), self._versions(), time.monotonic()
            writes = -(-len(self.pending()) // batch)
            until = max(before, 1) + {"write": self.draw.randint(1, writes - 1), "end": writes}.get(phase, 0)
            with self.start(self.index, batch) as run:
                while run.poll() is None and not self._reached(phase, until):
                    time.sleep(_PAUSE)
                seconds = time.monotonic() - began
                time.sleep(self.draw.uniform(0, starting if phase == "start" else _AFTER))
                run.kill()
                errors = (run.stderr.read() if run.stderr else b"").decode()
            self.check()
            if run.returncode < 0:
                written, left = self._versions() > max(before, 1), len(self.pending())
                self.counts["before" if not written else "during" if left else "after"] += 1
                return seconds
            if run.returncode:
                raise RuntimeError(f"`sfumato index` failed: {errors}")

    def _reached(self, phase: str, versions: int) -> bool:
        if phase == "create":
            return self.index.exists()
        return phase == "start" or self._versions() >= versions

    def _versions(self) -> int:
        """Number of transactions of the table, the first of which creates it."""
        return len(list((self.index / f"{TABLE}.lance" / "_versions").glob("*.manifest")))

    def check(self) -> None:
        """Compare the rows with those that were known, and count those lost and those that are there twice."""
        rows = rows_of(self.index) if self._versions() else []
        found = {row["path"]: row for row in rows}
        self.counts["twice"] += len(rows) - len(found)
        self.counts["lost"] += sum(
            not _same(found.get(path), row, VECTORS.values()) for path, row in self.known.items()
        )
        self.known = found

    def finish(self) -> None:
        """Run the command without a kill, and count the rows that an index made in one run does not have."""
        for index in (self.index, self.place / "whole"):
            with self.start(index, 64) as run:
                errors = (run.stderr.read() if run.stderr else b"").decode()
            if run.returncode:
                raise RuntimeError(f"`sfumato index` failed: {errors}")
        self.check()
        whole = {row["path"]: row for row in rows_of(self.place / "whole")}
        self.counts["rows"] += len(whole)
        self.counts["other"] += len(self.known.keys() - whole.keys())
        self.counts["other"] += sum(not _same(self.known.get(path), row, row) for path, row in whole.items())


def rows_of(index: Path) -> list[dict[str, Any]]:
    """All rows of an index."""
    found: list[dict[str, Any]] = ImageIndex.open(str(index)).table.to_arrow().to_pylist()
    return found


def _same(row: Mapping[str, Any] | None, other: Mapping[str, Any], columns: Iterable[str]) -> bool:
    """Whether a row exists and has the values of another one in these columns."""
    return row is not None and all(
        np.allclose(row[name], other[name], rtol=0, atol=_TOLERANCE)
        if name in VECTORS.values()
        else row[name] == other[name]
        for name in columns
    )


def measure(place: Path, kills: int, options: Sequence[str], seed: int = 0) -> Counter[str]:
    """Kill `kills` runs; returns the counts of all indices."""
    draw, counts, starting = random.Random(seed), Counter[str](), 0.0
    for first in range(0, kills, len(PHASES)):
        trial = Trial(place / str(first), options, draw)
        for phase in PHASES[: kills - first]:
            seconds = trial.kill(phase, starting)
            starting = seconds if phase == "create" else starting
        trial.finish()
        counts += trial.counts
    return counts


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=integer(1), default=50)
    for name in ("content", "style"):
        parser.add_argument(f"--{name}-encoder", help="as for `sfumato index`")
    given = parser.parse_args(words)
    encoders = {"--content-encoder": given.content_encoder, "--style-encoder": given.style_encoder}
    options = [word for flag, name in encoders.items() if name for word in (flag, name)]
    with tempfile.TemporaryDirectory(prefix="sfumato-kills-") as place:
        counts = measure(Path(place), given.kills, options)
    say(
        f"{given.kills} kills: {counts['before']} before the first write, {counts['during']} during writing, "
        f"{counts['after']} after it; rows lost: {counts['lost']}, rows twice: {counts['twice']}, rows that differ "
        f"from an index made in one run: {counts['other']} of {counts['rows']}"
    )


if __name__ == "__main__":
    main()
