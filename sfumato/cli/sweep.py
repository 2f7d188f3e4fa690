"""`sfumato sweep`: one picture, one prompt, many settings; a labelled contact sheet and a table with the metrics."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.edit import DEFAULT_METHOD, check_mask, typed
from sfumato.cli.flags import add_model, add_options, check_options, given_options, load_model
from sfumato.cli.inputs import add_max_pixels, read_picture
from sfumato.cli.methods import find_method
from sfumato.cli.metrics import add_judge, load_judge
from sfumato.cli.parser import CommandParser
from sfumato.cli.progress import progress
from sfumato.cli.report import print_json, print_table, shown
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.api import Model
    from sfumato.api.sweep import Trial
    from sfumato.images import Picture
    from sfumato.methods.registry import Method

#: Two metrics that pull against each other: how much changed, and how well the edit fits the target prompt.
FIDELITY_AND_ADHERENCE = ("lpips", "clip")


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """The picture, two prompts, the grid, and the parameters that stay fixed."""
    from sfumato.methods.params import options_of

    parser.usage = "sfumato sweep IMAGE --from TEXT --to TEXT --grid NAME=A,B,... -o FOLDER [options]"
    parser.add_argument("image", metavar="IMAGE", help="a picture")
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="what the picture shows")
    parser.add_argument("--to", dest="target", default="", metavar="TEXT", help="what it shall show")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FOLDER", help="sheet.png, table.csv, edits/")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=A,B",
        help="values (A;B: with commas) of a parameter; repeatable",
    )
    parser.add_argument(
        "--pareto", nargs="+", default=list(FIDELITY_AND_ADHERENCE), metavar="M", help="metrics; default: lpips clip"
    )
    parser.add_argument("--mask", metavar="IMAGE", help="white where the picture may change")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    add_model(parser)
    add_max_pixels(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--method", default=DEFAULT_METHOD, metavar="NAME", help=f"default {DEFAULT_METHOD}")
    add_judge(parser)
    method = find_method(typed(words, "--method") or DEFAULT_METHOD)
    add_options(parser, f"{method.name}, the same in all (defaults: the model's own)", options_of(method.params))
    parser.example('sfumato sweep heart.png --from "red heart" --to "blue heart" --grid skip=5,15 -o sweep')


def run(arguments: Namespace) -> None:
    """Check, edit, measure; write the sheet, the table and the edits."""
    from sfumato.api.sweep import grid_points
    from sfumato.methods.params import options_of

    method = find_method(arguments.method)
    fixed = given_options(arguments, options_of(method.params))
    grid = parse_grid(arguments.grid, method)
    for point in grid_points(grid):
        check_options(method.params, fixed | point)
    masked = arguments.mask is not None
    _check_metrics(arguments.pareto, masked=masked, text=True)
    picture, _ = read_picture(arguments.image, arguments.max_pixels)
    check_mask(arguments.mask, picture.size)
    model = load_model(arguments)
    _check_metrics(arguments.pareto, masked=masked, text=model.network.takes_text)
    work = _sweep(model, arguments, grid, fixed)
    folder = _folder(arguments.out)
    trials = _tried(work, len(grid_points(grid)))
    best = _pareto(trials, arguments.pareto)
    _write(folder, picture, trials, best, arguments)
    rows = [_row(trial, on_front) for trial, on_front in zip(trials, best, strict=True)]
    if arguments.json:
        print_json({"method": arguments.method, "sheet": str(folder / "sheet.png"), "trials": rows})
    else:
        columns = [*grid, *arguments.pareto, "pareto"]
        marked = [row | {"pareto": "*" if row["pareto"] else ""} for row in rows]
        print_table([columns, *([shown(row[name]) for name in columns] for row in marked)])
        print(f"{folder / 'sheet.png'}, {folder / 'table.csv'}")


def parse_grid(texts: Sequence[str], method: "Method") -> dict[str, list[Any]]:
    """NAME=A,B,... as values of the method's own types; NAME=A;B;... where the values hold commas.

    Raises:
        BadInput: not of that form, no parameter of the method, or a value of another type.
    """
    from sfumato.methods.params import options_of

    options = options_of(method.params)
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals or not values.strip():
            raise BadInput(f"--grid takes NAME=A,B,..., not {text!r}.")
        if name not in options or name in grid:
            again = "is given twice" if name in grid else f"is no parameter of {method.name}"
            raise BadInput(f"--grid: {name} {again}; there are {', '.join(options)}.")
        each = values.split(";" if ";" in values else ",")
        grid[name] = [_value(text.strip(), options[name].type, name) for text in each]
    if not grid:
        raise BadInput("give at least one --grid, for example --grid skip=5,10,15 --grid strength=3,6,9.")
    return grid


def _value(text: str, kind: Any, name: str) -> Any:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        what = "true or false" if kind is bool else "a whole number" if kind is int else "a number"
        raise BadInput(f"--grid: {name} must be {what}, not {text!r}.") from None


def _check_metrics(names: Sequence[str], *, masked: bool, text: bool) -> None:
    """Refuse metrics that cannot be measured without a mask, or by a model without text. Raises BadInput."""
    from sfumato.metrics import METRICS

    with_mask = [name for name in METRICS if name.startswith("outside_") or name == "clip_region"]
    known = [name for name in METRICS if not name.startswith("target_") and (masked or name not in with_mask)]
    known = [name for name in known if text or not name.startswith("clip")]
    for name in names:
        if name not in known:
            raise BadInput(f"--pareto: there is no metric {name!r} here; choose among {', '.join(known)}.")


def _folder(out: Path) -> Path:
    try:
        (out / "edits").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out} cannot be made ({error.strerror}): choose another folder.") from error
    return out


def _sweep(model: "Model", arguments: Namespace, grid: dict[str, list[Any]], fixed: Any) -> Iterator["Trial"]:
    """Everything checked; the work is done where the trials are asked for."""
    from sfumato.api.sweep import sweep

    return sweep(
        model,
        arguments.image,
        arguments.source,
        arguments.target,
        grid=grid,
        method=arguments.method,
        seed=arguments.seed,
        mask=arguments.mask,
        judge=load_judge(arguments, str(model.network.device)),
        **fixed,
    )


def _tried(work: Iterator["Trial"], total: int) -> list["Trial"]:
    """Every trial, in the order of the grid."""
    trials: list[Trial] = []
    with progress() as show:
        for trial in work:
            trials.append(trial)
            show(len(trials), total, f"setting {len(trials)}/{total}")
    return sorted(trials, key=lambda trial: trial.index)


def _pareto(trials: Sequence["Trial"], metrics: Sequence[str]) -> list[bool]:
    from sfumato.api.sweep import pareto

    return pareto([trial.scores for trial in trials], metrics)


def _row(trial: "Trial", best: bool) -> dict[str, Any]:
    return {**trial.options, **trial.scores, "pareto": best, "file": f"edits/{trial.index:03d}.png"}


def _write(
    folder: Path, picture: "Picture", trials: Sequence["Trial"], best: Sequence[bool], arguments: Namespace
) -> None:
    """The edits first, the table and the sheet last."""
    import csv
    import io

    from sfumato.files import write_text
    from sfumato.images import contact_sheet, write_image

    for trial in trials:
        trial.result.save(folder / "edits" / f"{trial.index:03d}.png", trial.row)
    rows = [_row(trial, on_front) for trial, on_front in zip(trials, best, strict=True)]
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    write_text(folder / "table.csv", text.getvalue())
    across = _columns(trials)
    labels = [_label(trial, on_front, arguments.pareto) for trial, on_front in zip(trials, best, strict=True)]
    cells = [[trial.pixels for trial in trials[first : first + across]] for first in range(0, len(trials), across)]
    texts = [labels[first : first + across] for first in range(0, len(labels), across)]
    title = f"{arguments.method}: {arguments.source} -> {arguments.target}\n* on the Pareto front of " + " and ".join(
        arguments.pareto
    )
    scale = max(1, 128 // max(picture.size))
    sheet = contact_sheet([[picture.rgb], *cells], [["source"], *texts], title=title, scale=scale)
    write_image(folder / "sheet.png", sheet)


def _columns(trials: Sequence["Trial"]) -> int:
    """As many as the last name of the grid has values: one row of the sheet for each setting of the others."""
    last = list(trials[0].options)[-1]
    return len({str(trial.options[last]) for trial in trials})


def _label(trial: "Trial", best: bool, metrics: Sequence[str]) -> str:
    setting = "  ".join(f"{name} {shown(value)}" for name, value in trial.options.items())
    numbers = "\n".join(f"{name} {shown(trial.scores[name])}" for name in metrics)
    return f"{'* ' if best else ''}{setting}\n{numbers}"
