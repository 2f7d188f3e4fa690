"""`sfumato sweep`: run one edit with many settings; write a labelled contact sheet and a table of metrics."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.edit import DEFAULT_METHOD
from sfumato.cli.flags import (
    add_options,
    flag_of,
    given_options,
    typed,
    values_of,
)
from sfumato.cli.hints import hints
from sfumato.cli.inputs import (
    add_masks,
    add_max_pixels,
    add_resolution,
    check_region_words,
    check_resolution,
    inputs,
    is_inversion,
    masks_of,
    read_image_and_notes,
    read_mask_of,
)
from sfumato.cli.method_flags import options_elsewhere
from sfumato.cli.metrics import add_evaluator, check_model_evaluator, shown_score
from sfumato.cli.model_flags import Texts, add_model, check_early, load_model, model_files, plain_texts
from sfumato.cli.option_checks import check_options, chosen_params
from sfumato.cli.outputs import add_no_recipe, remark, remarks
from sfumato.cli.parser import CommandParser, integer
from sfumato.cli.progress import progress
from sfumato.cli.report import print_json, print_table, say, shown
from sfumato.cli.swept import Saved, SweptFolder
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.api import Model
    from sfumato.api.trial import Trial
    from sfumato.editing.registry import Method
    from sfumato.images import LoadedImage

#: Two metrics in a trade-off: distance to the source image, and similarity of the edit to the target prompt.
FIDELITY_AND_ADHERENCE = ("lpips", "clip")


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the image, the two prompts, the grid, and the fixed parameters."""
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    parser.usage = "sfumato sweep IMAGE --from TEXT --to TEXT --grid NAME=A,B,... -o FOLDER [options]"
    parser.add_argument("image", metavar="IMAGE", help="source image")
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="prompt describing the source image")
    parser.add_argument("--to", dest="target", default="", metavar="TEXT", help="prompt describing the edited image")
    parser.add_argument(
        "-o", "--out", required=True, type=Path, metavar="FOLDER", help="output folder: sheet.png, table.csv, edits/"
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=A,B",
        help="values of a parameter, A;B if they contain commas; repeatable",
    )
    parser.add_argument(
        "--pareto",
        nargs="+",
        metavar="M",
        help="metrics of the Pareto front; default lpips clip, without --to lpips",
    )
    add_masks(parser)
    parser.add_argument("--seed", type=integer(0), default=0, metavar="N", help="random seed; default 0")
    add_model(parser)
    add_max_pixels(parser)
    add_resolution(parser)
    add_no_recipe(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--method", default=DEFAULT_METHOD, metavar="NAME", help=f"default {DEFAULT_METHOD}, see `sfumato methods`"
    )
    add_evaluator(parser)
    method = METHODS.find(typed(words, "--method") or DEFAULT_METHOD)
    parser.hint = partial(options_elsewhere, names=[method.name])
    values, origin = values_of(method, words)
    add_options(parser, f"{method.name}, for all settings ({origin})", options_of(method.params), values)
    parser.example('sfumato sweep heart.png --from "red heart" --to "blue heart" --grid skip=5,15 -o sweep')


def run(arguments: Namespace) -> None:
    """Run the edits and compute their metrics; write the edits, the table and the contact sheet."""
    from sfumato.api.grid import grid_points
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of
    from sfumato.options.prompt_words import check_named

    if is_inversion(arguments.image):
        raise BadInput(f"{arguments.image}: a sweep makes its own inversions: give the image, not an inversion.")
    method = METHODS.find(arguments.method)
    fixed = given_options(arguments, options_of(method.params))
    grid = parse_grid(arguments.grid, method)
    points = grid_points(grid)
    swept = [chosen_params(method.params, fixed | point) for point in points]
    for each in swept:
        check_options(each)
    texts = [plain_texts(arguments, [each]) for each in (arguments.source, arguments.target)]
    check_region_words(arguments, *texts)
    for each in swept:
        check_named(each.named_words, *texts)
    check_resolution(arguments)
    image, notes = read_image_and_notes(arguments.image, arguments.max_pixels)
    mask, more = read_mask_of(arguments, image.size)
    folder = SweptFolder(arguments.out, len(points), recipe=not arguments.no_recipe)
    files = [path for each in swept for path in each.files]
    folder.check([*inputs(arguments), *model_files(arguments), *dict.fromkeys(files)])
    check_early(
        arguments,
        Texts("source prompt (--from)", [arguments.source], empty=not method.params.needs_text),
        Texts("target prompt (--to)", [arguments.target], empty=all(each.keeps_prompt for each in swept)),
    )
    check_model_evaluator(arguments)
    front = _front(arguments)
    model = load_model(arguments)
    trials = _trials(model, arguments, grid, fixed | {"mask": mask})
    prompts = [arguments.source, arguments.target]
    notes += more + hints(model, arguments.image, image.size, prompts, arguments.resolution)
    if arguments.pareto is None and front != list(FIDELITY_AND_ADHERENCE):
        notes += remarks([f"Without --to the Pareto front is that of {' and '.join(front)}; --pareto names others."])
    folder.make()
    rows, found = _written(folder, trials, image, arguments, front)
    notes += remarks(found)
    if arguments.json:
        print_json({"method": arguments.method, "sheet": str(folder.sheet), "trials": rows, "notes": notes})
    else:
        _print(rows, list(grid), front)
        say(f"{folder.sheet}, {folder.table}")


def parse_grid(texts: Sequence[str], method: "Method") -> dict[str, list[Any]]:
    """Parse NAME=A,B,... to values with the types of the method's parameters; NAME=A;B;... if values contain commas.

    Raises:
        BadInput: the text has another form, NAME is not a parameter of the method, or a value has the wrong type.
    """
    from sfumato.options.option import kind_of
    from sfumato.options.params import options_of

    options = options_of(method.params)
    by_flag = {flag_of(name)[2:]: name for name in options}
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        flag = name.strip().removeprefix("--")
        name = by_flag.get(flag, flag)
        if not equals or not values.strip():
            raise BadInput(f"--grid takes NAME=A,B,..., not {text!r}.")
        if name not in options or name in grid:
            again = "is given twice" if name in grid else f"is no parameter of {method.name}"
            raise BadInput(f"--grid: {name} {again}; there are {', '.join(by_flag)}.")
        each = values.split(";" if ";" in values else ",")
        grid[name] = [_value(text.strip(), kind_of(options[name]), name) for text in each]
    if not grid:
        raise BadInput("give at least one --grid, for example --grid skip=5,10,15 --grid guidance=3,6,9.")
    return grid


def _value(text: str, kind: Any, name: str) -> Any:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        what = "true or false" if kind is bool else "an integer" if kind is int else "a number"
        raise BadInput(f"--grid: {name} must be {what}, not {text!r}.") from None


def _front(arguments: Namespace) -> list[str]:
    """The metrics of the Pareto front, by default those of `FIDELITY_AND_ADHERENCE` that can be computed.

    Raises:
        BadInput: a metric requires a mask or a prompt that is missing.
    """
    from sfumato.metrics import measurable

    target, source = bool(arguments.target.strip()), bool(arguments.source.strip())
    there = {"mask": arguments.mask is not None, "target text": target, "source text": target and source}
    known = measurable([name for name, given in there.items() if given])
    if arguments.pareto is None:
        return [name for name in FIDELITY_AND_ADHERENCE if name in known]
    for name in arguments.pareto:
        if name not in known:
            raise BadInput(f"--pareto: there is no metric {name!r} here; choose among {', '.join(known)}.")
    return list(arguments.pareto)


def _trials(model: "Model", arguments: Namespace, grid: dict[str, list[Any]], fixed: Any) -> Iterator["Trial"]:
    """Check all settings; the returned iterator runs the edits."""
    from sfumato.api.evaluators import evaluator_of
    from sfumato.api.sweep import sweep

    return sweep(
        model,
        arguments.image,
        arguments.source,
        arguments.target,
        grid=grid,
        method=arguments.method,
        seed=arguments.seed,
        evaluator=evaluator_of(model, arguments.clip, arguments.structure, arguments.lpips),
        max_pixels=arguments.max_pixels,
        resolution=arguments.resolution,
        tiles=arguments.tiles,
        **masks_of(arguments) | fixed,
    )


def _written(
    folder: SweptFolder,
    trials: Iterator["Trial"],
    image: "LoadedImage",
    arguments: Namespace,
    front: Sequence[str],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Write each edit when it is finished, then (also after Ctrl-C) sheet and table.

    Returns:
        The rows of the table, and the remarks on the edits.
    """
    saved: list[Saved] = []
    title = f"{arguments.method}: {arguments.source} -> {arguments.target}"
    try:
        with progress() as show:
            for trial in trials:
                if not saved:
                    folder.clear()
                saved.append(folder.save(trial))
                show(len(saved), folder.count, f"setting {len(saved)}/{folder.count}")
    except BaseException:
        if saved:
            folder.finish(image, saved, title, front)
            remark(f"{len(saved)} of {folder.count} settings are in {folder.table} and {folder.sheet}.")
        raise
    notes = dict.fromkeys(note for each in saved for note in each.notes)
    return folder.finish(image, saved, title, front), list(notes)


def _print(rows: Sequence[dict[str, Any]], settings: Sequence[str], metrics: Sequence[str]) -> None:
    lines = [
        [*(shown(row[name]) for name in settings), *(shown_score(row[name]) for name in metrics), "*" * row["pareto"]]
        for row in rows
    ]
    print_table([[*settings, *metrics, "pareto"], *lines])
