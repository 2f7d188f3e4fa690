"""Pages of the documentation whose numbers are written by the script that measured them."""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato.errors import BadInput

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def insert(page: Path, fragment: str) -> None:
    """Replace what stands between the two marks of a page.

    Raises:
        BadInput: the page is not there or lacks the marks.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN not in text or END not in text:
        raise BadInput(f"{page} must be a page that has the lines {BEGIN} and {END}.")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{fragment}{END}{after}", encoding="utf-8")


def publish(given: Namespace, fragment: str, numbers: Mapping[str, Any], figures: Sequence[str]) -> None:
    """Write numbers.json and fragment.md beside the figures in `given.out`, put them into `given.page`, print.

    Args:
        given: the command line: `out` is a folder, `page` a Markdown page or None; its figures are copied beside it.
        fragment: Markdown, what the page says about the numbers.
        numbers: everything, as JSON values.
        figures: names of the files in `out` that the page shows.

    Raises:
        BadInput: the page is not there or lacks its marks.
    """
    (given.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (given.out / "fragment.md").write_text(fragment, encoding="utf-8")
    if given.page is not None:
        insert(given.page, fragment)
        for figure in figures:
            shutil.copy(given.out / figure, given.page.with_name(f"{given.page.stem}-{figure}"))
    print(fragment)


def reported(script: str, work: Callable[[], None]) -> int:
    """Do the work of a script; a bad input becomes one sentence on stderr and the exit code 2."""
    try:
        work()
    except BadInput as error:
        print(f"{Path(script).name}: {error}", file=sys.stderr)
        return 2
    return 0
