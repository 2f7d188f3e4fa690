"""Figure of objects: moves and resizes by Self-Guidance, and images of two objects by every method."""

from pathlib import Path

from papers.guided.moves import edits_of
from papers.guided.several import METHODS, generated
from papers.guided.study import Pixels, Study, smaller
from sfumato.images import contact_sheet, write_image

MOVED = (("red heart", "noto"), ("green heart", "twemoji"), ("star", "fluent-flat"), ("cat face", "emojitwo"))
EDITS = ("still", "move", "resize 0.7", "resize 1.4")
PAIRS = (("red heart", "cat face"), ("blue circle", "yellow heart"), ("lemon", "dog face"))
STYLE = "noto"


def draw(study: Study, path: Path) -> None:
    """Draw moved and resized objects, and images of two objects."""
    rows: list[list[Pixels]] = []
    labels: list[list[str]] = []
    drawings = study.drawings([name for name, _ in MOVED])
    for name, style in MOVED:
        source = smaller(drawings[f"{name}, {style}"])
        inverted = study.model.invert(source, f"{name}, {style}", method="self-guidance", steps=study.size.steps)
        options = edits_of(name)
        rows.append([source, *(inverted.edit("", residual=False, **options[each]).pixels[0] for each in EDITS)])
        labels.append([f"{name}, {style}", *EDITS])
    for seed, pair in enumerate(PAIRS):
        images = {name: generated(study, name, pair, [STYLE], seed)[0] for name in METHODS}
        rows.append(list(images.values()))
        labels.append([f"{' and '.join(pair)}: {each}" for each in images])
    write_image(path, contact_sheet(rows, labels, scale=1, paper=(235, 235, 235)))
