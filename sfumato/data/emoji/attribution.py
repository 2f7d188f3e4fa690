"""ATTRIBUTION.md and the licence texts that are distributed with the images."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from sfumato.data.emoji.sources import Credit, Style
from sfumato.files import write_text

#: SPDX identifier -> (title, link).
LICENCES = {
    "MIT": ("MIT License", "https://opensource.org/license/mit"),
    "Apache-2.0": ("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0 International",
        "https://creativecommons.org/licenses/by/4.0/",
    ),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/",
    ),
}

#: Licences of the names and keywords, which every corpus uses.
_NAMES = ("Unicode-3.0", "emojibase-data")
_LICENCES = (*LICENCES, *_NAMES)
_PAGE, _FOLDER = "ATTRIBUTION.md", "licences"


def attribution(styles: Sequence[Style], size: int) -> str:
    """Text of ATTRIBUTION.md: title, copyright holder, source and licence of all artwork, and what was changed."""
    lines = [
        "# Attribution",
        "",
        f"The images were rasterised to {size} x {size} pixels from the packages that `table.parquet` names",
        "in its column `package`; they are otherwise unchanged. The full licence texts lie in `licences/`.",
        "",
    ]
    for credit in dict.fromkeys(style.credit for style in styles):
        lines += _paragraph(credit, [style.name for style in styles if style.credit == credit])
    lines += [
        "## Names, keywords and groups",
        "",
        "Unicode CLDR, (c) Unicode, Inc., Unicode License v3, text in `licences/Unicode-3.0.txt`;",
        "taken from emojibase-data, (c) Miles Johnson, MIT License, text in `licences/emojibase-data.txt`.",
        "",
    ]
    return "\n".join(lines)


def _paragraph(credit: Credit, styles: Sequence[str]) -> list[str]:
    title, url = LICENCES[credit.licence]
    return [
        f"## {credit.title}",
        "",
        f"Styles: {', '.join(styles)}. (c) {credit.holder}. Source: {credit.url}",
        f"Licence: [{title}]({url}), text in `licences/{credit.licence}.txt`.",
        *([credit.note] if credit.note else []),
        "",
    ]


def write_attribution(out: Path, styles: Sequence[Style], size: int) -> None:
    """Write ATTRIBUTION.md and the licence texts that it names; remove other licence texts."""
    write_text(out / _PAGE, attribution(styles, size))
    (out / _FOLDER).mkdir(exist_ok=True)
    wanted = {style.licence for style in styles}.union(_NAMES)
    for licence in _LICENCES:
        path = out / _FOLDER / f"{licence}.txt"
        if licence in wanted:
            write_text(path, licence_text(licence))
        else:
            path.unlink(missing_ok=True)


def attributed() -> list[str]:
    """All files that `write_attribution` may write or remove, relative to the folder of the corpus."""
    return [_PAGE, *(f"{_FOLDER}/{licence}.txt" for licence in _LICENCES)]


def licence_text(licence: str) -> str:
    """Full text of one of `LICENCES`, or of the licences of names and keywords."""
    return files(__package__).joinpath("licences", f"{licence}.txt").read_text(encoding="utf-8")
