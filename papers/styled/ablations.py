"""Ablations of the training: edits by PARASOL files that were trained without a part of the method, in the same cells.

The paper's ablations remove the style loss L_s, the content loss L_y, and the projector M. All files are compared with
one that was trained for as many steps with all parts. Edits without lambda and with the colour step need no other file;
they are part of the comparison of methods (`papers.styled.cells`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from papers.claim import Claim
from papers.styled.study import Numbers, Study, joined
from papers.sure import clustered_difference
from sfumato.errors import BadInput

VERSION = 1
ALL = "all parts"
"""Name of the file that was trained with all parts."""
REMOVED = {
    "without L_s": ("without L_s the style is farther from that of the style image", "style_mse"),
    "without L_y": ("without L_y the content is farther from that of the content image", "content_mse"),
    "without M": ("with a linear map instead of the projector M the style is farther away", "style_mse"),
}
"""Claim of the paper about a file, and the metric that is larger according to it."""


def check_names(names: Iterable[str]) -> None:
    """Raise BadInput if there are ablations, but no file with all parts to compare them with."""
    given = list(names)
    if given and ALL not in given:
        raise BadInput(f'Give the file of a training of equal length with all parts, too: --ablation "{ALL}=FILE".')


def measure(study: Study) -> Numbers:
    """Metrics of the edits by every file, and the emoji of the cells, by name of the file."""
    found: dict[str, list[Mapping[str, list[Any]]]] = {}
    for cells in study.cells(study.size.ablated) if study.ablations else ():
        inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
        for name, path in study.ablations.items():
            made = inverted.edit("", **study.options(cells, parasol=str(path))).pixels
            found.setdefault(name, []).append(study.measured(cells, made) | {"emoji": cells.emoji})
    return {name: joined(parts) for name, parts in found.items()}


def claims(numbers: Mapping[str, Mapping[str, list[Any]]]) -> list[Claim]:
    """The claims about the files that were measured."""
    found = []
    for name, (text, metric) in REMOVED.items():
        if name in numbers:
            reference = numbers[ALL]
            farther = clustered_difference(numbers[name][metric], reference[metric], reference["emoji"])
            found.append(Claim(text, f"{metric} rises by {farther}", farther.positive))
    return found
