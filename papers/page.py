"""Write measured numbers to pages of the documentation."""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato.errors import BadInput

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def around(page: Path) -> tuple[str, str]:
    """The text before and after the two markers of a page.

    Raises:
        BadInput: the page does not exist or lacks the markers.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN not in text or END not in text:
        raise BadInput(f"{page} must be a page that has the lines {BEGIN} and {END}.")
    return text.split(BEGIN)[0], text.split(END)[1]


def insert(page: Path, fragment: str) -> None:
    """Replace the text between the two markers of a page. Raises BadInput as `around`."""
    before, after = around(page)
    page.write_text(f"{before}{BEGIN}\n{fragment}{END}{after}", encoding="utf-8")


def publish(given: Namespace, fragment: str, numbers: Mapping[str, Any], figures: Sequence[str]) -> None:
    """Write numbers.json and fragment.md to `given.out`, insert the fragment into `given.page`, and print it.

    Args:
        given: the command line: `out` is a folder, `page` a Markdown page or None.
        fragment: the tables as Markdown.
        numbers: all numbers, as JSON values.
        figures: names of files in `out`, which are copied to the folder of the page.

    Raises:
        BadInput: the page does not exist or lacks the marks.
    """
    (given.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (given.out / "fragment.md").write_text(fragment, encoding="utf-8")
    if given.page is not None:
        insert(given.page, fragment)
        for figure in figures:
            shutil.copy(given.out / figure, given.page.with_name(f"{given.page.stem}-{figure}"))
    print(fragment)


def reported(script: str, given: Namespace, work: Callable[[Namespace], None]) -> int:
    """Check the page of a command line, and run `work` with it.

    Returns:
        An exit code: 0, or 2 after BadInput, whose message is printed to stderr.
    """
    try:
        page = vars(given).get("page")
        if page is not None:
            around(page)
        work(given)
    except BadInput as error:
        print(f"{Path(script).name}: {error}", file=sys.stderr)
        return 2
    return 0
