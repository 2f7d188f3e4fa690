"""`sfumato directions show` and `apply`: edits along saved directions."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.described import check_directions, load_directions, print_delta, print_directions, print_text_direction
from sfumato.cli.flags import add_options, given_options, values_of
from sfumato.cli.hints import hints
from sfumato.cli.inputs import add_mask, add_max_pixels, add_resolution, check_saved, read_image_and_notes, read_mask_of
from sfumato.cli.model_flags import add_model, load_model, model_files
from sfumato.cli.option_checks import check_options, chosen_params
from sfumato.cli.outputs import add_no_recipe, add_out, output_paths, refuse_inputs, remarks, save_all
from sfumato.cli.parser import CommandParser, integer, real
from sfumato.cli.progress import progress
from sfumato.cli.report import print_json
from sfumato.cli.work import counted, finish, made_by, print_summary, summary
from sfumato.errors import BadInput
from sfumato.formats import DELTA_H, TEXT_DIRECTION

if TYPE_CHECKING:
    from sfumato.api.model import Model
    from sfumato.api.plan import Plan
    from sfumato.geometry import Directions

_FIXED = ("directions", "time", "skip", "keep_positions", "kind", "steps")
"""Parameters of the method that the file of directions determines."""
_SHOWN = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Multiples of gamma that the contact sheet shows."""
_GAMMA = 8.0
"""Default of the largest step length of the contact sheet."""
_OF_SHEET = {
    "source": "--from",
    "gamma": "--gamma",
    "normalise": "--no-normalise",
    "chunk": "--chunk",
    "scale": "--scale",
    "resolution": "--resolution",
}
"""Options of the contact sheet of an image, and their flags."""


def show_flags(parser: CommandParser) -> None:
    """Add the file of directions and, for a contact sheet, an image."""
    parser.add_argument("file", type=Path, metavar="FILE", help="file of directions")
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="image to edit along each direction")
    parser.add_argument("-o", "--out", type=Path, metavar="SHEET", help="contact sheet to write; needs IMAGE")
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="prompt describing the source image")
    parser.add_argument(
        "--gamma", type=real(0, 1000), metavar="N", help=f"largest step length in the latent; default {_GAMMA:g}"
    )
    parser.add_argument(
        "--no-normalise",
        dest="normalise",
        action="store_const",
        const=False,
        help="do not preserve mean and standard deviation of the predicted x_0",
    )
    parser.add_argument(
        "--chunk", type=integer(1), metavar="N", help="batch size of products with the Jacobian; default 16"
    )
    parser.add_argument("--scale", type=integer(1, 16), metavar="N", help="enlargement factor of the images; default 1")
    add_model(parser)
    add_max_pixels(parser)
    add_resolution(parser, tiles=False)
    parser.example("sfumato directions show people.safetensors woman.png -o sheet.png")


def show(arguments: Namespace) -> None:
    """Print the directions; draw the effect of each one on the image."""
    _check_sheet(arguments)
    check_saved(arguments.file, "a set of directions")
    image = (
        None
        if arguments.image is None
        else read_image_and_notes(arguments.image, arguments.max_pixels, restores=False)[0]
    )
    if arguments.image is None and arguments.out is None:
        if TEXT_DIRECTION.matches(arguments.file):
            from sfumato.shifts.text_direction import TextDirection

            return print_text_direction(arguments.file, TextDirection.load(arguments.file), arguments.json)
        if DELTA_H.matches(arguments.file):
            from sfumato.shifts.delta_h import DeltaH

            return print_delta(arguments.file, DeltaH.load(arguments.file), arguments.json)
    found = load_directions(arguments.file)
    from sfumato.api.variations import variations
    from sfumato.images import check_output, contact_sheet, write_image

    if (image is None) != (arguments.out is None):
        raise BadInput("a contact sheet needs both IMAGE and -o SHEET: give both or neither.")
    if image is None:
        print_directions(arguments.file, found, arguments.json)
        return
    scale = 1 if arguments.scale is None else arguments.scale
    least = (len(_SHOWN) * image.size[0] * scale, len(found) * image.size[1] * scale)
    check_output(arguments.out, least)
    refuse_inputs(arguments.out, [arguments.image, str(arguments.file), *model_files(arguments)])
    given = {} if arguments.normalise is None else {"normalise": arguments.normalise}
    inverted = finish(_plan(arguments, image.size, found, direction=found.names[0], **given).invert())
    gamma = _GAMMA if arguments.gamma is None else arguments.gamma
    gammas, rows = [share * gamma for share in _SHOWN], []
    chunk = {} if arguments.chunk is None else {"chunk": arguments.chunk}
    with progress() as bar, counted(inverted.model) as report:
        for row in variations(inverted, found, gammas, **chunk):
            rows.append(row)
            bar(len(rows), len(found), f"direction {len(rows)}/{len(found)}")
    labels = [[f"{name}\n{gamma:+g}" for gamma in gammas] for name in found.names]
    write_image(arguments.out, contact_sheet(rows, labels, scale=scale))
    print_directions(arguments.file, found, arguments.json, [arguments.out], [inverted.report, report])


def _check_sheet(arguments: Namespace) -> None:
    """Raise BadInput for options of the contact sheet without an image."""
    given = [flag for name, flag in _OF_SHEET.items() if getattr(arguments, name) not in (None, "")]
    if given and arguments.image is None and arguments.out is None:
        raise BadInput(f"{given[0]} is for the contact sheet of an image: give IMAGE and -o SHEET, or leave it out.")


def apply_flags(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the image, the file, the output, and the parameters of the method that the file does not determine."""
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    parser.add_argument("image", metavar="IMAGE", help="source image")
    parser.add_argument("file", type=Path, metavar="FILE", help="file of directions")
    add_out(parser)
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="prompt describing the source image")
    parser.add_argument(
        "--to", dest="target", default="", metavar="TEXT", help="prompt describing the edited image; default: --from"
    )
    add_mask(parser)
    add_model(parser)
    add_max_pixels(parser)
    add_resolution(parser, tiles=False)
    add_no_recipe(parser)
    method = METHODS.find("pullback")
    values, origin = values_of(method, words)
    free = {name: each for name, each in options_of(method.params).items() if name not in _FIXED}
    add_options(parser, f"pullback ({origin})", free, values)
    parser.example(
        "sfumato directions apply woman.png people.safetensors -o out.png --direction age=1,smile=-0.5",
    )


def apply(arguments: Namespace) -> None:
    """Edit the image along the directions, save the result and report every step."""
    from sfumato.methods.pullback import PullbackParams
    from sfumato.options.params import options_of

    check_directions(arguments.file)
    given = given_options(arguments, options_of(PullbackParams))
    check_options(chosen_params(PullbackParams, given | {"directions": str(arguments.file)}))
    image, notes = read_image_and_notes(arguments.image, arguments.max_pixels)
    inputs = [arguments.image, str(arguments.file), *([arguments.mask] if arguments.mask else [])]
    paths = output_paths(arguments.out, 1, size=image.size, keep=[*inputs, *model_files(arguments)])
    mask, of_mask = read_mask_of(arguments, image.size)
    found = load_directions(arguments.file)
    plan = _plan(arguments, image.size, found, arguments.target, mask=mask, **given)
    resolution = plan.sources.groups[0].inversion.parameters["resolution"]
    prompts = [arguments.source, arguments.target]
    notes += of_mask + hints(plan.sources.model, arguments.image, image.size, prompts, resolution)
    result = finish(plan.run())
    notes += save_all(result, paths, recipe=not arguments.no_recipe) + remarks(result.report["notes"])
    made = made_by(plan.sources.model, arguments.model)
    report = summary([result.report], paths, notes, **made, source_prompt=arguments.source)
    print_json(report) if arguments.json else print_summary(report)


def _plan(arguments: Namespace, size: tuple[int, int], found: "Directions", target: str = "", **options: Any) -> "Plan":
    """Plan an edit of an image of `size` (width, height) at the timestep of the directions.

    Raises:
        BadInput: the directions do not fit the model or the image.
    """
    model = load_model(arguments)
    options |= {"resolution": _resolution(arguments.resolution, size, found, model), "max_pixels": arguments.max_pixels}
    options |= {"directions": str(arguments.file), "time": found.time, "steps": found.steps, "methods": "pullback"}
    return model.plan(arguments.image, arguments.source, target, **options)


def _resolution(
    wanted: int | str | None, size: tuple[int, int], found: "Directions", model: "Model"
) -> int | str | None:
    """The user's resolution; by default the image's own size if the directions were computed at this size."""
    from sfumato.api.group import padded_size

    if wanted is None and model.network.latent_shape(*padded_size(model.network, size)) == tuple(found.latent):
        return "full"
    return wanted
