"""`sfumato methods`: the editing methods, and the parameters of each."""

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sfumato.cli.flags import flag_of
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, print_table, shown

if TYPE_CHECKING:
    from sfumato.methods.registry import Method


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """`methods` or `methods NAME`."""
    parser.usage = "sfumato methods [NAME] [--json]"
    parser.add_argument("name", nargs="?", metavar="NAME", help="a method, to see its parameters")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato methods", "sfumato methods edit-friendly")


def run(arguments: Namespace) -> None:
    """List the methods, or the parameters of one."""
    from sfumato.methods.registry import methods

    known = methods()
    if arguments.name is not None:
        _one(find_method(arguments.name), arguments.json)
    elif arguments.json:
        print_json({"methods": [{"name": m.name, "summary": m.summary} for m in known.values()]})
    else:
        print_table([[m.name, m.summary] for m in known.values()])


def find_method(name: str) -> "Method":
    """The method of that name. Raises BadInput with the name that may have been meant."""
    from sfumato.cli.parser import suggestion
    from sfumato.errors import BadInput
    from sfumato.methods.registry import methods

    known = methods()
    if name not in known:
        raise BadInput(f"there is no method {name!r}{suggestion(name, known)}")
    return known[name]


def _one(method: "Method", as_json: bool) -> None:
    from sfumato.methods.params import allowed, options_of

    options = options_of(method.params)
    if as_json:
        described: list[dict[str, Any]] = [
            {"name": name, "default": each.default, "stage": each.metadata["stage"], "help": each.metadata["help"]}
            | {key: each.metadata[key] for key in ("low", "high", "above")}
            for name, each in options.items()
        ]
        print_json({"name": method.name, "summary": method.summary, "parameters": described})
        return
    print(f"{method.name}: {method.summary}\n")
    rows = [["parameter", "default", "allowed", "", ""]]
    for name, each in options.items():
        flag = each.type is bool
        span = "a switch" if flag else allowed(each)
        rows.append([flag_of(name), shown(each.default), span, each.metadata["stage"], each.metadata["help"]])
    print_table(rows)
