"""`sfumato models`: the shipped models and their folders."""

from argparse import Namespace
from collections.abc import Sequence

from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, print_table, say
from sfumato.errors import BadInput


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the action `path` and the name of a model."""
    parser.usage = "sfumato models [path NAME] [--json]"
    parser.add_argument("action", nargs="?", choices=["path"], metavar="path", help="print the folder of a model")
    parser.add_argument("name", nargs="?", metavar="NAME", help="shipped model")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato models", "sfumato models path emoji")


def run(arguments: Namespace) -> None:
    """List the models, or print the folder of one."""
    from sfumato.models.bundled import bundled_path, list_models

    if arguments.action == "path":
        if arguments.name is None:
            raise BadInput("name the model whose folder is to be printed: sfumato models path NAME.")
        folder = bundled_path(arguments.name)
        print_json({"name": arguments.name, "folder": folder}) if arguments.json else say(str(folder))
        return
    models = list_models()
    if arguments.json:
        found = [{"name": m.name, "folder": m.folder, "summary": m.summary} for m in models]
        print_json({"models": found})
        return
    if not models:
        say("sfumato: this installation contains no models.", error=True)
    print_table([[m.name, m.summary, str(m.folder)] for m in models])
