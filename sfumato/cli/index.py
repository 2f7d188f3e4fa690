"""`sfumato index`: compute content and style descriptors of the images in folders, for `sfumato search`."""

import os
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser, integer
from sfumato.cli.progress import duration, progress
from sfumato.cli.report import print_json, say

if TYPE_CHECKING:
    from sfumato.retrieval.indexing import Indexing
    from sfumato.style.describers import Describers

_SHOWN = 5
"""Largest number of unreadable files and folders that are listed; --json lists all."""


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the folders, the index and the encoders."""
    parser.usage = "sfumato index FOLDER ... --out INDEX [options]"
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="folder of images, with or without metadata.jsonl, or the corpus"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="INDEX",
        help="folder or URI (s3://, gs://, az://) of the index; an existing one is updated",
    )
    parser.add_argument("--batch", type=integer(1, 4096), default=64, metavar="N", help="images per write; default 64")
    add_encoders(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato index photos --out photos.index")


def add_encoders(parser: CommandParser, *, listed: bool = True) -> None:
    """Add the encoders, which must be those that the index was computed with, and their device."""
    texts = {
        "content-encoder": "CLIP, folder or hub id; default: the bundled one, for emoji",
        "style-encoder": "export of `sfumato train style`; default: the bundled one, for emoji",
    }
    for name, text in texts.items():
        parser.add_argument(f"--{name}", metavar="FOLDER", help=text if listed else SUPPRESS)
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda" if listed else SUPPRESS)


def check_encoders(arguments: Namespace) -> None:
    """Check, without torch, the device and the files that the flags of `add_encoders` select. Raises BadInput."""
    from sfumato.devices import check_device_name
    from sfumato.networks.image_networks import check_clip
    from sfumato.style.files import check_style_encoder

    check_device_name(arguments.device)
    if arguments.content_encoder is not None:
        check_clip(arguments.content_encoder)
    if arguments.style_encoder is not None:
        check_style_encoder(arguments.style_encoder)


def load_describers(arguments: Namespace) -> "Describers":
    """Load the encoders that the flags of `add_encoders` select. Raises BadInput."""
    from sfumato.cli.quiet import quiet_libraries
    from sfumato.devices import pick_device

    quiet_libraries()
    from sfumato.style.describers import Describers

    device = pick_device(arguments.device)
    return Describers.load(arguments.content_encoder, arguments.style_encoder, device)


def run(arguments: Namespace) -> None:
    """Index the folders one after the other and print a summary."""
    check_encoders(arguments)
    from sfumato.retrieval.files import image_files
    from sfumato.retrieval.index import ImageIndex
    from sfumato.retrieval.indexing import index_files

    files = [file for folder in arguments.folders for file in image_files(folder)]
    describers = load_describers(arguments)
    index = ImageIndex.create(arguments.out, describers, files)
    began, state = time.monotonic(), None
    with progress() as show:
        for state in index_files(index, describers, files, batch=arguments.batch, threads=min(8, os.cpu_count() or 1)):
            show(state.done, state.total, _line(state, time.monotonic() - began))
    assert state is not None
    _report(arguments, state, len(index), time.monotonic() - began)


def _line(state: "Indexing", seconds: float) -> str:
    rate = (state.done - state.unchanged) / max(seconds, 1e-9)
    left = (state.total - state.done) / max(rate, 1e-9)
    return f"{state.done}/{state.total} images, {rate:.1f} per second, {duration(left)} left"


def _report(arguments: Namespace, state: "Indexing", rows: int, seconds: float) -> None:
    for sentence in state.unreadable[:_SHOWN]:
        remark(f"left out: {sentence}")
    if len(state.unreadable) > _SHOWN:
        remark(f"left out: in total {len(state.unreadable)} files and folders that cannot be read; --json lists them.")
    if arguments.json:
        print_json(
            {
                "index": arguments.out,
                "images": rows,
                "added": state.added,
                "changed": state.changed,
                "unchanged": state.unchanged,
                "unreadable": state.unreadable,
                "seconds": round(seconds, 3),
            }
        )
        return
    say(
        f"{arguments.out}: {rows} images, {state.added} added ({state.changed} of them again, because their file or "
        f"metadata had changed), {state.unchanged} unchanged, {len(state.unreadable)} unreadable; {seconds:.1f} s"
    )
