"""`sfumato methods`: the editing methods, and the parameters of each."""

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sfumato.cli.flags import flag_of
from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, print_table, say, shown

if TYPE_CHECKING:
    from sfumato.methods.registry import Method, Unloaded


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """`methods` or `methods NAME`."""
    parser.usage = "sfumato methods [NAME] [--json]"
    parser.add_argument("name", nargs="?", metavar="NAME", help="a method, to see its parameters")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato methods", "sfumato methods edit-friendly")


def run(arguments: Namespace) -> None:
    """List the methods, or the parameters of one."""
    from sfumato.methods.registry import methods, unloaded

    if arguments.name is not None:
        _one(find_method(arguments.name), arguments.json)
        return
    known, failures = methods().values(), unloaded()
    if arguments.json:
        print_json({"methods": [_described(m) for m in known], "unloaded": [vars(failure) for failure in failures]})
    else:
        print_table([[m.name, ", ".join(m.handles), m.summary] for m in known])
    warn_of(failures)


def find_method(name: str) -> "Method":
    """The method of that name. Raises BadInput with the name that may have been meant, or why it is not there."""
    from sfumato.cli.parser import suggestion
    from sfumato.errors import BadInput
    from sfumato.methods.registry import get_method, methods, unloaded

    known = methods()
    if name not in known and name not in {failure.name for failure in unloaded()}:
        raise BadInput(f"there is no method {name!r}{suggestion(name, known)}")
    return get_method(name)


def warn_of(failures: "Sequence[Unloaded]") -> None:
    """Say on stderr which methods of other packages are not there."""
    for failure in failures:
        remark(f"{failure}: install what it needs, or remove the package.")


def _described(method: "Method") -> dict[str, Any]:
    return {"name": method.name, "summary": method.summary, "handles": method.handles}


def _one(method: "Method", as_json: bool) -> None:
    from sfumato.methods.params import allowed, options_of

    options = options_of(method.params)
    if as_json:
        parameters: list[dict[str, Any]] = [
            {"name": name, "default": each.default, "stage": each.metadata["stage"], "help": each.metadata["help"]}
            | {key: each.metadata[key] for key in ("low", "high", "above", "choices", "after")}
            for name, each in options.items()
        ]
        print_json(_described(method) | {"parameters": parameters})
        return
    for line in (f"{method.name}: {method.summary}", f"moves: {', '.join(method.handles) or 'nothing'}", ""):
        say(line)
    rows = [["parameter", "default", "allowed", "", ""]]
    for name, each in options.items():
        flag = each.type is bool
        span = "a switch" if flag else allowed(each)
        rows.append([flag_of(name), shown(each.default), span, each.metadata["stage"], each.metadata["help"]])
    print_table(rows)
