"""`sfumato invert`: invert an image and save the inversion, for repeated edits."""

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.edit import DEFAULT_METHOD
from sfumato.cli.flags import add_options, given_options, typed, values_of
from sfumato.cli.hints import hints
from sfumato.cli.inputs import add_max_pixels, add_resolution, check_resolution, read_image_and_notes
from sfumato.cli.method_flags import options_elsewhere
from sfumato.cli.model_flags import Texts, add_model, load_model, model_files
from sfumato.cli.option_checks import check_options, chosen_params
from sfumato.cli.outputs import refuse_inputs, remarks
from sfumato.cli.parser import CommandParser, integer
from sfumato.cli.report import print_json, say
from sfumato.cli.work import cost_line, finish, made_by, summary
from sfumato.errors import BadInput
from sfumato.files import check_writable

if TYPE_CHECKING:
    from sfumato.images import LoadedImage


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the image, its prompt, the output, and the parameters of the method that concern the inversion."""
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    parser.usage = "sfumato invert IMAGE --from TEXT -o OUT.safetensors [options]"
    parser.add_argument("image", metavar="IMAGE", help="source image")
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="prompt describing the source image")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="OUT", help="output .safetensors file")
    parser.add_argument(
        "--seed", type=integer(0), default=0, metavar="N", help="random seed of the inversion; default 0"
    )
    add_model(parser)
    add_max_pixels(parser)
    add_resolution(parser)
    parser.add_argument("--check", action="store_true", help="also measure the reconstruction (--json always does)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--method", default=DEFAULT_METHOD, metavar="NAME", help=f"default {DEFAULT_METHOD}, see `sfumato methods`"
    )
    method = METHODS.find(typed(words, "--method") or DEFAULT_METHOD)
    parser.hint = partial(options_elsewhere, names=[method.name], stages=["invert"])
    values, origin = values_of(method, words)
    add_options(parser, f"{method.name} ({origin})", options_of(method.params, "invert"), values)
    parser.example(
        'sfumato invert apple.png --from "red apple, twemoji" -o apple.safetensors',
        'sfumato edit apple.safetensors --to "green apple, twemoji" -o out.png',
    )


def run(arguments: Namespace) -> None:
    """Invert the image, save the inversion and print a summary."""
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    method = METHODS.find(arguments.method)
    given = given_options(arguments, options_of(method.params, "invert"))
    chosen = chosen_params(method.params, given)
    check_options(chosen)
    check_resolution(arguments)
    image, notes = read_image_and_notes(arguments.image, arguments.max_pixels, restores=False)
    _check_out(arguments.out, [arguments.image, *chosen.files, *model_files(arguments)])
    notes += remarks(_left_out(arguments.out, image))
    texts = Texts("source prompt (--from)", [arguments.source], empty=not method.params.needs_text)
    model = load_model(arguments, texts)
    work = model.invert_steps(
        arguments.image,
        arguments.source,
        method=arguments.method,
        seed=arguments.seed,
        max_pixels=arguments.max_pixels,
        resolution=arguments.resolution,
        tiles=arguments.tiles,
        **given,
    )
    notes += hints(model, arguments.image, image.size, [arguments.source], arguments.resolution)
    inverted = finish(work)
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


def _left_out(out: Path, image: "LoadedImage") -> list[str]:
    """A remark on what the image has and its inversion lacks; [] if that is nothing."""
    parts = {
        "transparency": image.alpha,
        "colour profile": image.icc,
        "16 bits per channel": image.samples16,
        "EXIF": image.exif or None,
        "resolution (DPI)": image.dpi,
    }
    missing = ", ".join(name for name, part in parts.items() if part is not None)
    if not missing:
        return []
    return [f"{out} will not contain the {missing} of {image.name}: to keep them in an edit, edit the image itself."]


def _check_out(out: Path, inputs: Sequence[str]) -> None:
    """Raise BadInput for an output that cannot be written or is an input, before any work."""
    if out.suffix.lower() != ".safetensors":
        raise BadInput(f"{out}: an inversion is written to a .safetensors file: choose a name with this extension.")
    check_writable(out, "a .safetensors file")
    refuse_inputs(out, inputs)
