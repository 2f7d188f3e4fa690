"""`sfumato data emoji`: build the emoji corpus."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from sfumato.cli.parser import CommandParser, integer
from sfumato.cli.report import print_json, print_table, say
from sfumato.errors import BadInput
from sfumato.suggestions import suggestion

DATASETS = ("emoji",)


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the arguments of `sfumato.data.emoji.build`."""
    parser.usage = "sfumato data emoji [--out FOLDER] [options]"
    parser.add_argument("dataset", metavar="emoji", help="emoji corpus: the same content in many styles")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/emoji"),
        metavar="FOLDER",
        help="folder of the dataset; default data/emoji",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="folder for downloaded packages; default OUT/../cache"
    )
    parser.add_argument(
        "--styles", nargs="+", metavar="STYLE", help="only these styles; default: all with a permissive licence"
    )
    parser.add_argument("--sharealike", action="store_true", help="include artwork under share-alike licences")
    parser.add_argument("--flags", action="store_true", help="include national flags")
    parser.add_argument("--pypi", action="store_true", help="use installed PyPI packages instead of npm")
    parser.add_argument("--size", type=integer(16, 1024), default=128, metavar="PIXELS", help="image size; default 128")
    parser.add_argument("--limit", type=integer(1), metavar="N", help="at most N images per style, for a trial run")
    parser.add_argument(
        "--workers", type=integer(1), default=2, metavar="N", help="number of rendering processes; default 2"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example(
        "sfumato data emoji --out data/emoji",
        "sfumato data emoji --out data/small --styles twemoji noto --limit 100",
    )


def run(arguments: Namespace) -> None:
    """Build the dataset, or resume an interrupted build; print a summary of its content."""
    if arguments.dataset not in DATASETS:
        raise BadInput(f"there is no dataset {arguments.dataset!r}{suggestion(arguments.dataset, DATASETS)}")
    from sfumato.data.emoji import build

    report = build(
        arguments.out,
        cache=arguments.cache or arguments.out.parent / "cache",
        styles=arguments.styles,
        sharealike=arguments.sharealike,
        flags=arguments.flags,
        pypi=arguments.pypi,
        size=arguments.size,
        limit=arguments.limit,
        workers=arguments.workers,
    )
    if arguments.json:
        print_json({"folder": arguments.out} | vars(report))
        return
    print_table([[style, str(count)] for style, count in report.styles.items()])
    say(f"{report.images} images of {report.size} pixels in {arguments.out}")
    if report.failed:
        say(f"{len(report.failed)} drawings could not be rendered; build.json names them")
