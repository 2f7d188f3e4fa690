"""Edits of held-out emoji drawings by the bundled model: the figure of the README.

    sfumato data emoji --out data/emoji
    python papers/held_out.py --out docs/images

The sources are drawings of emoji in styles that no model was trained on (splits `cells` and `test`), so the model knows
at most other drawings of the same emoji. Every edit is made by Prompt-to-Prompt with the defaults of the model and seed
0. `held-out-all.png` shows all of `EDITS`, which were written down before any of them was made; `held-out.png` shows
those of `SHOWN`, which were chosen by eye.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sfumato
from papers.page import reported
from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.images import contact_sheet, write_image

EDITS = (
    ("cherries, fluent-color", "strawberry"), ("hamburger, fluent-flat", "pizza"), ("pig face, noto", "panda"),
    ("pig face, noto", "bear"), ("green heart, noto-blob", "red heart"), ("grinning face, emojitwo", "crying face"),
    ("smiling face with heart-eyes, twemoji", "smiling face with sunglasses"), ("automobile, noto", "taxi"),
    ("tulip, fluent-flat", "sunflower"), ("doughnut, noto", "cookie"), ("taxi, fluent-color", "police car"),
    ("fish, noto", "dolphin"), ("alien, twemoji", "robot"), ("purple heart, noto-blob", "yellow heart"),
    ("winking face, twemoji", "angry face"), ("slightly smiling face, noto", "enraged face"),
    ("avocado, emojitwo", "pear"), ("bird, noto", "owl"), ("weary cat, fluent-flat", "dog face"),
    ("smiling face with horns, fluent-flat", "skull"), ("winking face, fluent-flat", "face with medical mask"),
    ("kissing cat, noto", "bear"), ("grapes, noto-blob", "cherries"), ("black heart, noto-blob", "blue heart"),
)  # fmt: skip
"""Caption of the source, and name of the target in the same style."""
SHOWN = (0, 1, 2, 6, 8, 14, 18, 19)
"""Edits in the README."""
_WIDE = 8


def target(edit: tuple[str, str]) -> str:
    """Caption of the target: its name in the style of the source."""
    return f"{edit[1]}, {edit[0].rpartition(', ')[2]}"


def sources(data: Path, side: int) -> list[NDArray[np.uint8]]:
    """The source images [h,w,3] of `EDITS`. Raises BadInput if one is not among the held-out images."""
    names = [caption.rpartition(", ")[0] for caption, _ in EDITS]
    found: dict[str, NDArray[np.uint8]] = {}
    for split in ("cells", "test"):
        images = CaptionedImages.open(data, side, names=names, split=split)
        found |= {caption: images.images[row].transpose(1, 2, 0) for row, caption in enumerate(images.captions)}
    if missing := [caption for caption, _ in EDITS if caption not in found]:
        raise BadInput(
            f"{data} has no held-out image of {', '.join(missing)}: build it again with `sfumato data emoji`."
        )
    return [found[caption] for caption, _ in EDITS]


def sheet(
    path: Path, images: Sequence[NDArray[np.uint8]], edited: Sequence[NDArray[np.uint8]], shown: Sequence[int]
) -> None:
    """Write a contact sheet: rows of sources, each above a row of their edits."""
    rows, labels = [], []
    for first in range(0, len(shown), _WIDE):
        part = shown[first : first + _WIDE]
        rows += [[images[n] for n in part], [edited[n] for n in part]]
        labels += [[EDITS[n][0] for n in part], [target(EDITS[n]) for n in part]]
    write_image(path, contact_sheet(rows, labels))


def work(given: argparse.Namespace) -> None:
    """Edit all images and write both sheets."""
    given.out.mkdir(parents=True, exist_ok=True)
    model = sfumato.load("emoji")
    images = sources(given.data, model.network.native_size[0])
    inverted = model.invert(images, [caption for caption, _ in EDITS], method="prompt-to-prompt")
    edited = inverted.edit([target(edit) for edit in EDITS]).pixels
    sheet(given.out / "held-out.png", images, edited, SHOWN)
    sheet(given.out / "held-out-all.png", images, edited, range(len(EDITS)))


def main(words: Sequence[str] | None = None) -> int:
    """Run the script. Returns an exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="folder of the corpus")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the figures")
    given = parser.parse_args(words)
    return reported(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
