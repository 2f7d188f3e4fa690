"""Write the example images from the corpus: `python -m sfumato.examples.make data/emoji`."""

import sys
from pathlib import Path

import pyarrow.compute as pc

from sfumato.data.corpus import read_corpus
from sfumato.data.pixels import centred_drawing, open_drawing
from sfumato.examples import Example, examples
from sfumato.images import write_image

SIZE = 128


def make(corpus: Path, example: Example, path: Path) -> None:
    """Write one image to `path`: the emoji on white, scaled by its bounding box as in the training data."""
    wanted = (pc.field("style") == example.style) & (pc.field("codepoints") == example.codepoints)
    (row,) = read_corpus(corpus).filter(wanted & (pc.field("variant") == 0)).to_pylist()
    with open_drawing(corpus / row["file"]) as image:
        write_image(path, centred_drawing(image, tuple(row["bbox"]), SIZE).transpose(1, 2, 0))


if __name__ == "__main__":
    for each in examples():
        make(Path(sys.argv[1]), each, each.path)
