"""`sfumato methods`: the editing methods, and the parameters of each."""

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sfumato.cli.defaults import values_with
from sfumato.cli.flags import flag_of, shown_default
from sfumato.cli.model_flags import add_model_name
from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, print_table, say

if TYPE_CHECKING:
    from sfumato.editing.registry import Method
    from sfumato.plugins import Unloaded


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the name of a method."""
    parser.usage = "sfumato methods [NAME] [--model NAME] [--json]"
    parser.add_argument("name", nargs="?", metavar="NAME", help="method whose parameters are listed")
    add_model_name(parser, "model whose defaults are listed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato methods", "sfumato methods edit-friendly")


def run(arguments: Namespace) -> None:
    """List the methods, or the parameters of one."""
    from sfumato.editing.registry import METHODS

    if arguments.name is not None:
        _one(METHODS.find(arguments.name), arguments.model, arguments.json)
        return
    known, failures = METHODS.values(), METHODS.unloaded
    if arguments.json:
        print_json({"methods": [_described(m) for m in known], "unloaded": [vars(failure) for failure in failures]})
    else:
        print_table([[m.name, ", ".join(m.handles), m.summary] for m in known])
    warn_of(failures)


def warn_of(failures: "Sequence[Unloaded]") -> None:
    """Print on stderr the methods, inversions, metrics and tasks of other packages that cannot be loaded."""
    for failure in failures:
        remark(str(failure))


def _described(method: "Method") -> dict[str, Any]:
    return {"name": method.name, "summary": method.summary, "handles": method.handles}


def _one(method: "Method", model: str, as_json: bool) -> None:
    from sfumato.options.option import allowed, kind_of
    from sfumato.options.params import options_of

    options = options_of(method.params)
    values, origin = values_with(model, method.params, method.section, {})
    if as_json:
        parameters: list[dict[str, Any]] = [
            {"name": name, "default": values[name], "stage": each.metadata["stage"], "help": each.metadata["help"]}
            | {key: getattr(each.metadata["range"], key) for key in ("low", "high", "above")}
            | {key: each.metadata[key] for key in ("choices", "after")}
            for name, each in options.items()
        ]
        print_json(_described(method) | {"defaults": origin, "parameters": parameters})
        return
    for line in (f"{method.name}: {method.summary}", f"modifies: {', '.join(method.handles) or 'nothing'}", ""):
        say(line)
    say(f"{origin}:")
    rows = [["parameter", "default", "allowed", "stage", "description"]]
    for name, each in options.items():
        flag = kind_of(each) is bool
        span = "on or off" if flag else allowed(each)
        rows.append([flag_of(name), shown_default(values[name]), span, each.metadata["stage"], each.metadata["help"]])
    print_table(rows)
