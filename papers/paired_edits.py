"""Comparison of editing methods on paired edits: error to the ground truth, adherence to the prompt and cost.

    sfumato bench pairs --splits test cells --rows papers/paired_edits.toml --out out/pairs
    python papers/paired_edits.py --results out/pairs --out out/paired_edits

reads the results of the first command and writes trade.png (adherence against error), edits.png (a contact sheet of
edits), numbers.json and fragment.md. `--page FILE` inserts the last into a page between its markers, and copies the
figures next to it. Requires the extra `papers`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from papers.page import publish, reported
from papers.paired import figures
from papers.paired.results import Results, emoji_of
from papers.paired.tables import as_markdown, numbers

FIGURES = ("trade.png", "edits.png")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, required=True, help="folder that `sfumato bench pairs` wrote")
    parser.add_argument("--out", type=Path, default=Path("out/paired_edits"), help="folder of the figures and numbers")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="folder of the corpus")
    parser.add_argument("--shown", type=int, default=4, help="number of edits in the contact sheet")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the tables into")
    return parser.parse_args(words)


def work(given: argparse.Namespace) -> None:
    """Read the results, compare, draw and write."""
    results = Results.read(given.results, emoji_of(given.data))
    given.out.mkdir(parents=True, exist_ok=True)
    figures.trade(given.out / FIGURES[0], results)
    figures.edits(given.out / FIGURES[1], results, given.data, given.shown)
    publish(given, as_markdown(results), numbers(results), FIGURES)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script. Returns an exit code."""
    given = arguments(words)
    return reported(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
