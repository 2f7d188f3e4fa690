"""`sfumato search`: find images by content and style."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.index import add_encoders, check_encoders, load_describers
from sfumato.cli.outputs import refuse_inputs, remarks
from sfumato.cli.parser import CommandParser, integer, real
from sfumato.cli.report import print_json, print_table
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.retrieval.index import ImageIndex
    from sfumato.retrieval.query import Query
    from sfumato.retrieval.search import Hit
    from sfumato.style.describers import Describers

_COLUMNS, _SIDE = 6, 96
"""Images in a row of the contact sheet, and their longest side in pixels."""


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the index, the query with its weights, the filter and the output."""
    parser.usage = "sfumato search INDEX [--image FILE] [--text TEXT] [--style FILE] [options]"
    parser.add_argument("index", metavar="INDEX", help="folder or URI of an index from `sfumato index`")
    flags = {
        "image": ("FILE", "images that are similar in content and style"),
        "content": ("FILE", "images that show the same"),
        "text": ("TEXT", "images that show what a caption says"),
        "style": ("FILE", "images in the same style"),
        "style-text": ("TEXT", "images in the style that words name, such as twemoji"),
    }
    for name, (kind, text) in flags.items():
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar=kind, help=f"{text}; several are averaged")
    for name in ("content", "style"):
        parser.add_argument(f"--{name}-weight", type=real(0), metavar="W", help=f"weight of the {name}; default 1")
    parser.add_argument("-k", type=integer(1, 10_000), default=12, metavar="N", help="number of images; default 12")
    parser.add_argument(
        "--where", default="", metavar="SQL", help="condition on the columns: \"style = 'noto' AND split = 'test'\""
    )
    parser.add_argument("--exact", action="store_true", help="compare all rows, also of a large index")
    parser.add_argument("-o", "--out", type=Path, metavar="SHEET", help="contact sheet of the images found")
    add_encoders(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object with all columns")
    parser.example('sfumato search photos.index --text "red car" --style painting.png -k 24 -o found.png')


def run(arguments: Namespace) -> None:
    """Search, write the contact sheet and print the images found."""
    check_encoders(arguments)
    from sfumato.images import check_output
    from sfumato.retrieval.index import ImageIndex
    from sfumato.retrieval.search import search
    from sfumato.style.words import notes_on

    inputs = [*arguments.image, *arguments.content, *arguments.style]
    if arguments.out is not None:
        check_output(arguments.out)
        refuse_inputs(arguments.out, inputs)
    index = ImageIndex.open(arguments.index)
    if arguments.out is not None:
        refuse_inputs(arguments.out, index.paths_of(arguments.out))
    describers = load_describers(arguments)
    query = _query(arguments, describers, index)
    index.check_describers(describers, query.modalities)
    notes = remarks(notes_on(describers.style.words.unknown(" ".join(arguments.style_text))))
    hits = search(index, query, arguments.k, where=arguments.where, exact=True if arguments.exact else None)
    if arguments.out is not None:
        _write_sheet(arguments, inputs, hits)
    if arguments.json:
        found = [_as_json(hit) for hit in hits]
        print_json({"index": arguments.index, "weights": query.weights, "found": found, "notes": notes})
    else:
        print_table([["score", *query.modalities, "image", ""], *(_as_row(hit) for hit in hits)])


def _query(arguments: Namespace, describers: "Describers", index: "ImageIndex") -> "Query":
    """The query. Raises BadInput for images and texts whose descriptors cannot be computed."""
    from sfumato.retrieval.files import ImageFile
    from sfumato.retrieval.query import Query, QueryPart

    wanted = {
        "content": QueryPart(_files(ImageFile, arguments.image + arguments.content), arguments.text),
        "style": QueryPart(_files(ImageFile, arguments.image + arguments.style), arguments.style_text),
    }
    vectors = {name: each.vector(describers, name, index) for name, each in wanted.items()}
    given = {"content": arguments.content_weight, "style": arguments.style_weight}
    weights = {name: weight for name, weight in given.items() if weight is not None}
    return Query.of({name: vector for name, vector in vectors.items() if vector is not None}, weights)


def _files(kind: Any, paths: Sequence[str]) -> list[Any]:
    return [kind(Path(path)) for path in paths]


def _as_json(hit: "Hit") -> dict[str, Any]:
    """Columns, score and cosines; the latter override columns of the same name in an index of an earlier version."""
    return hit.row | {"score": hit.score, "cosines": hit.cosines}


def _as_row(hit: "Hit") -> list[str]:
    cosines = [f"{value:.3f}" for value in hit.cosines.values()]
    return [f"{hit.score:.3f}", *cosines, hit.row["path"], hit.row.get("caption") or ""]


def _write_sheet(arguments: Namespace, inputs: Sequence[str], hits: Sequence["Hit"]) -> None:
    """Write a contact sheet; its first row contains the images of the query, if there are any."""
    from sfumato.images import contact_sheet, write_image

    rows, labels = [], []
    if inputs:
        rows.append([_small(path) for path in inputs])
        labels.append([f"query {number}" for number in range(1, len(inputs) + 1)])
    for start in range(0, len(hits), _COLUMNS):
        part = hits[start : start + _COLUMNS]
        rows.append([_small(hit.row["path"]) for hit in part])
        labels.append([f"{hit.score:.2f} {hit.row.get('caption') or Path(hit.row['path']).name}" for hit in part])
    texts = [*arguments.text, *arguments.style_text]
    write_image(arguments.out, contact_sheet(rows, labels, title=", ".join(texts)))


def _small(path: str) -> Any:
    """The image, scaled down to at most 96 pixels; a crossed square if it can no longer be read."""
    import numpy as np

    from sfumato.images import read_image
    from sfumato.images.sheet import shrunk

    try:
        return shrunk(read_image(path).rgb, _SIDE)
    except BadInput:
        missing: Any = np.full((_SIDE, _SIDE, 3), 235, np.uint8)
        missing[np.eye(_SIDE, dtype=bool) | np.eye(_SIDE, dtype=bool)[::-1]] = 160
        return missing
