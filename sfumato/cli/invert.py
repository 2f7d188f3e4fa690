"""`sfumato invert`: invert once, edit many times."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from sfumato.cli.edit import DEFAULT_METHOD, typed
from sfumato.cli.flags import add_model, add_options, check_options, given_options, load_model
from sfumato.cli.inputs import add_max_pixels, read_picture
from sfumato.cli.methods import find_method
from sfumato.cli.outputs import refuse_inputs
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, say
from sfumato.cli.work import cost_line, finish, made_by, summary
from sfumato.errors import BadInput


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """The picture, its prompt, the output, and those parameters of the method that belong to the inversion."""
    from sfumato.methods.params import options_of

    parser.usage = "sfumato invert IMAGE --from TEXT -o OUT.safetensors [options]"
    parser.add_argument("image", metavar="IMAGE", help="a picture")
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="what it shows")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="OUT", help="a .safetensors file")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0; another gives another edit")
    add_model(parser)
    add_max_pixels(parser)
    parser.add_argument("--check", action="store_true", help="measure the reconstruction too (--json always does)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--method", default=DEFAULT_METHOD, metavar="NAME", help=f"see `sfumato methods`; default {DEFAULT_METHOD}"
    )
    method = find_method(typed(words, "--method") or DEFAULT_METHOD)
    add_options(parser, f"{method.name} (defaults: the model's own)", options_of(method.params, "invert"))
    parser.example(
        'sfumato invert apple.png --from "red apple, twemoji" -o apple.safetensors',
        'sfumato edit apple.safetensors --to "green apple, twemoji" -o out.png',
    )


def run(arguments: Namespace) -> None:
    """Invert, save, report."""
    from sfumato.methods.params import options_of

    method = find_method(arguments.method)
    given = given_options(arguments, options_of(method.params, "invert"))
    check_options(method.params, given)
    _, notes = read_picture(arguments.image, arguments.max_pixels)
    _check_out(arguments.out, arguments.image)
    model = load_model(arguments)
    inverted = finish(
        model.invert_steps(
            arguments.image,
            arguments.source,
            method=arguments.method,
            seed=arguments.seed,
            max_pixels=arguments.max_pixels,
            **given,
        )
    )
    reports = [inverted.report]
    if arguments.check or arguments.json:
        reports.append(finish(inverted.reconstruct_steps()).report)
    inverted.save(arguments.out)
    found = summary(
        reports,
        [arguments.out],
        notes,
        **made_by(model, arguments.model),
        source_prompt=arguments.source,
        seeds=[arguments.seed],
    )
    if arguments.json:
        print_json(found)
    else:
        say(str(arguments.out))
        say(cost_line(found))


def _check_out(out: Path, image: str) -> None:
    """Refuse an output that cannot be written, before any work. Raises BadInput."""
    if out.suffix.lower() != ".safetensors":
        raise BadInput(f"{out}: an inversion is written to a .safetensors file; choose such a name.")
    if out.exists() and not out.is_file():
        raise BadInput(f"{out} is not an ordinary file: choose another name.")
    if not out.absolute().parent.is_dir():
        raise BadInput(f"{out}: the folder {out.absolute().parent} does not exist: create it first.")
    refuse_inputs(out, [image])
