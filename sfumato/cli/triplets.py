"""`sfumato triplets`: find the training triplets of PARASOL by search."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.parser import CommandParser, integer, real
from sfumato.cli.report import print_json, print_table, shown
from sfumato.errors import BadInput
from sfumato.files import printable

if TYPE_CHECKING:
    from sfumato.retrieval.index import ImageIndex

LABELS = {"content": "untoned", "style": "style"}
"""Columns of the corpus with the true content and style."""


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the indices, the bounds and the output."""
    parser.usage = "sfumato triplets INDEX -o TABLE [options]"
    parser.add_argument("index", metavar="INDEX", help="index of the output images x")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="TABLE", help="output .parquet file")
    for name in ("content", "style"):
        parser.add_argument(
            f"--{name}-index",
            metavar="INDEX",
            help=f"{name} database; default: INDEX, one half of it for each database",
        )
    parser.add_argument("--where", default="", metavar="SQL", help="condition on the output images")
    parser.add_argument("--where-content", default="", metavar="SQL", help="condition on the content database")
    parser.add_argument("--where-style", default="", metavar="SQL", help="condition on the style database")
    parser.add_argument("-k", type=integer(1), default=50, metavar="N", help="candidates per image; default 50")
    for name, other in (("content", "style"), ("style", "content")):
        parser.add_argument(
            f"--most-{name}",
            type=real(-1, 1),
            default=0.5,
            metavar="COS",
            help=f"largest cosine of the {name}s of x and its {other} image; default 0.5",
        )
        parser.add_argument(
            f"--{name}-column",
            metavar="NAME",
            help=f"column of the true {name}; default {LABELS[name]}, if there is one",
        )
    parser.add_argument(
        "--same-content",
        action="store_true",
        help="the content image has the true content of x; for labelled images, if C confuses contents",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    train = "\"split = 'train'\""
    parser.example(
        f"sfumato triplets emoji.index --where {train} --where-content {train} \\",
        f"    --where-style {train} -o triplets.parquet",
    )


def _columns(arguments: Namespace, indices: Mapping[str, "ImageIndex"]) -> dict[str, str]:
    """Columns of the true content and style.

    Raises:
        BadInput: the index of x, or that of the database of the same name, does not have a given column.
    """
    from sfumato.retrieval.columns import OWN

    given = {"content": arguments.content_column, "style": arguments.style_column}
    for name, column in given.items():
        for index in (indices["x"], indices[name]):
            labels = [each for each in index.columns if each not in OWN]
            if column is not None and column not in labels:
                listed = f"name one of {', '.join(labels)}" if labels else "the index has no such columns: leave it out"
                raise BadInput(f"{printable(index.uri)} has no column {column!r} of the true {name}: {listed}.")
    return {name: LABELS[name] if column is None else column for name, column in given.items()}


def run(arguments: Namespace) -> None:
    """Find the triplets, write them and print a summary."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sfumato.files import write_bytes
    from sfumato.retrieval.index import ImageIndex
    from sfumato.retrieval.triplet_report import nothing_found, report
    from sfumato.retrieval.triplets import disjoint, find_triplets, read_images

    if arguments.out.suffix.lower() != ".parquet" or not arguments.out.absolute().parent.is_dir():
        raise BadInput(f"{arguments.out}: triplets are written to a .parquet file in a folder that exists.")
    names = {"x": arguments.index, "content": arguments.content_index, "style": arguments.style_index}
    opened = {name: ImageIndex.open(uri or arguments.index) for name, uri in names.items()}
    for name, index in opened.items():
        if dict(index.about) != dict(opened["x"].about):
            raise BadInput(
                f"The {name} database has descriptors of other encoders than {arguments.index}: index it again."
            )
    columns = _columns(arguments, opened)
    conditions = {"x": arguments.where, "content": arguments.where_content, "style": arguments.where_style}
    images = {name: read_images(index, conditions[name], columns) for name, index in opened.items()}
    contents, styles = disjoint(images["content"], images["style"])
    bounds = {"most_content": arguments.most_content, "most_style": arguments.most_style}
    found = find_triplets(images["x"], contents, styles, k=arguments.k, same_content=arguments.same_content, **bounds)
    if not len(found.complete):
        raise BadInput(nothing_found(found, same_content=arguments.same_content))
    buffer = pa.BufferOutputStream()
    pq.write_table(found.table(opened["x"].about), buffer)
    write_bytes(arguments.out, memoryview(buffer.getvalue()))
    about = {"contents": len(contents), "styles": len(styles)} | report(found)
    if arguments.json:
        print_json({"out": arguments.out, **about})
    else:
        print_table([[name.replace("_", " "), shown(value)] for name, value in about.items()])
