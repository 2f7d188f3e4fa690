"""`sfumato style`: render the content of one image in the style of others by PARASOL; a shortcut for `sfumato edit`."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from sfumato.cli.flags import add_options, given_options, values_of
from sfumato.cli.inputs import add_max_pixels, read_image_and_notes
from sfumato.cli.model_flags import Texts, add_model, load_model, model_files
from sfumato.cli.option_checks import check_options, chosen_params
from sfumato.cli.outputs import add_out, output_paths, remarks, save_all
from sfumato.cli.parser import CommandParser, integer
from sfumato.cli.report import print_json
from sfumato.cli.work import finish, made_by, print_summary, summary
from sfumato.errors import BadInput

METHOD = "parasol"
FLAGS = (
    "parasol", "style_text", "content", "content_text", "style_scale", "content_scale", "style_term", "lam",
    "colour_match", "steps", "skip", "inversion", "eta", "invert_with", "content_encoder", "style_encoder",
)  # fmt: skip
"""Method options that are flags of this command; `sfumato edit` has all. Positional arguments set `style`."""


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the images, the output, and the parameters of the method."""
    from sfumato.editing.registry import METHODS

    parser.usage = "sfumato style CONTENT [STYLE ...] -o OUT [options]"
    parser.add_argument("image", metavar="CONTENT", help="image whose content is kept")
    parser.add_argument(
        "style", nargs="*", metavar="STYLE", help="style images, with weights as FILE=2; or --style-text"
    )
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="prompt describing the content image")
    add_out(parser)
    add_model(parser)
    add_max_pixels(parser)
    parser.add_argument(
        "--seed", type=integer(0), metavar="N", help="random seed of an inversion with --eta above 0; default 0"
    )
    parser.add_argument("--no-recipe", action="store_true", help="do not save the settings (recipe) in the file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    method = METHODS.find(METHOD)
    values, origin = values_of(method, words)
    options = {name: _options(method)[name] for name in FLAGS}
    add_options(parser, f"{METHOD} ({origin})", options, values)
    parser.example("sfumato style fox.png face.png -o styled.png")


def run(arguments: Namespace) -> None:
    """Invert the content image, edit it, save the result and print a summary."""
    from sfumato.editing.registry import METHODS
    from sfumato.models.bundled import bundled_parasol
    from sfumato.options.weighted import read_weighted

    method = METHODS.find(METHOD)
    arguments.style = read_weighted("style", arguments.style) or None
    given = given_options(arguments, _options(method))
    if "parasol" not in given:
        if not bundled_parasol(arguments.model):
            raise BadInput("give --parasol FILE, the export of `sfumato train parasol` (sfumato style --help).")
        given["parasol"] = arguments.model
    if not any(given.get(name) for name in ("style", "style_text", "content", "content_text")):
        raise BadInput("give a style image, or --style-text, --content or --content-text: otherwise nothing changes.")
    chosen = chosen_params(method.params, given)
    check_options(chosen)
    image, notes = read_image_and_notes(arguments.image, arguments.max_pixels)
    keep = [arguments.image, *chosen.files, *model_files(arguments)]
    paths = output_paths(arguments.out, 1, size=image.size, keep=keep)
    model = load_model(arguments, Texts("source prompt (--from)", [arguments.source]))
    plan = model.plan(image, arguments.source, "", methods=METHOD, seed=arguments.seed or 0, **given)
    inverted = finish(plan.invert())
    result = finish(plan.apply(inverted))
    notes += save_all(result, paths, recipe=not arguments.no_recipe) + remarks(result.report["notes"])
    if arguments.seed is not None and inverted.report["parameters"]["eta"] == 0:
        notes += remarks(["the seed had no effect: with these settings the edit does not depend on it."])
    made = summary([inverted.report, result.report], paths, notes, **made_by(model, arguments.model))
    print_json(made) if arguments.json else print_summary(made)


def _options(method: Any) -> dict[str, Any]:
    from sfumato.options.params import options_of

    return options_of(method.params)
