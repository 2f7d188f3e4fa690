"""Pages of the documentation whose numbers are written by the script that measured them."""

from pathlib import Path

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
