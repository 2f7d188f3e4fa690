"""`sfumato edit`: the main job, a real image edited by text."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.cli.auto import about, add_auto, check_auto, check_source, chosen, load_auto
from sfumato.cli.flags import add_model, add_options, add_seeds, check_options, given_options, load_model, seeds_of
from sfumato.cli.inputs import (
    add_masks,
    add_max_pixels,
    check_mask,
    inputs,
    is_inversion,
    masks_of,
    read_picture,
    region_of,
)
from sfumato.cli.methods import find_method
from sfumato.cli.outputs import add_out, output_paths, remark, save_all
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json
from sfumato.cli.work import finish, made_by, print_summary, summary
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.api import Inverted, Model, Result
    from sfumato.metrics import Judge

DEFAULT_METHOD = "edit-friendly"


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """The picture, two prompts, the output, and the parameters of the method that `words` name."""
    from sfumato.methods.params import options_of

    parser.usage = "sfumato edit IMAGE --from TEXT --to TEXT -o OUT [options]"
    parser.add_argument("image", metavar="IMAGE", help="a picture, or an inversion that `sfumato invert` wrote")
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="what the picture shows")
    parser.add_argument("--to", dest="target", default="", metavar="TEXT", help="what it shall show")
    parser.add_argument("--negative", default="", metavar="TEXT", help="what it shall not show")
    add_out(parser)
    add_masks(parser)
    add_auto(parser, words)
    add_seeds(parser)
    add_model(parser)
    add_max_pixels(parser)
    parser.add_argument("--no-residual", action="store_true", help="do not give back what the autoencoder loses")
    parser.add_argument("--check", action="store_true", help="measure the reconstruction too (--json always does)")
    parser.add_argument("--no-recipe", action="store_true", help="keep the recipe out of the PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--method", default=_method_in(words), metavar="NAME", help=f"see `sfumato methods`; default {DEFAULT_METHOD}"
    )
    method = find_method(typed(words, "--method") or _method_in(words))
    add_options(parser, f"{method.name} (defaults: the model's own)", options_of(method.params))
    parser.example('sfumato edit heart.png --from "red heart, twemoji" --to "blue heart, twemoji" -o out.png')


def run(arguments: Namespace) -> None:
    """Edit, save, report."""
    from sfumato.methods.params import options_of

    method = find_method(arguments.method)
    given = given_options(arguments, options_of(method.params))
    check_options(method.params, given)
    check_auto(arguments, method, given)
    region_of(arguments)
    found = _inversion(arguments, given) if is_inversion(arguments.image) else _picture(arguments)
    paths = output_paths(arguments.out, found.count, size=found.size, keep=inputs(arguments))
    check_mask(arguments.mask, found.size)
    check_source(arguments, found.source)
    model = load_model(arguments)
    inverted, judge = _inverted(model, arguments, found, given)
    edit: dict[str, Any] = {name: given[name] for name in options_of(method.params, "edit") if name in given}
    edit |= masks_of(arguments) | {"residual": not arguments.no_residual, "negative_prompt": arguments.negative}
    reports, notes = [inverted.report] if "seconds" in inverted.report else [], found.notes
    if judge is not None:
        choice = chosen(inverted, arguments, judge, edit)
        edit |= choice.trial.options
        reports.append(choice.report)
        notes.append(about(choice))
        remark(notes[-1])
    result = finish(inverted.edit_steps(arguments.target, check=arguments.check or arguments.json, **edit))
    notes += save_all(result, paths, recipe=not arguments.no_recipe) + _alike(result)
    first = result.recipes[0]
    made = summary(
        [*reports, result.report],
        paths,
        notes,
        **made_by(model, arguments.model),
        **masks_of(arguments),
        source_prompt=first["source_prompt"],
        negative_prompt=arguments.negative,
        seeds=[recipe["seed"] for recipe in result.recipes],
        residual=not arguments.no_residual,
    )
    print_json(made) if arguments.json else print_summary(made)


@dataclass(frozen=True)
class _Found:
    """What the command is given to edit, looked at before a model is loaded.

    size: (width, height) in pixels; count: how many results it gives; source: its source prompt; notes: remarks on it.
    """

    size: tuple[int, int]
    count: int
    source: str
    notes: list[str]


def _picture(arguments: Namespace) -> _Found:
    seeds = seeds_of(arguments)
    picture, notes = read_picture(arguments.image, arguments.max_pixels)
    return _Found(picture.size, len(seeds), arguments.source, notes)


def _inversion(arguments: Namespace, given: dict[str, Any]) -> _Found:
    """A saved inversion: its own prompt, seed and parameters hold."""
    from sfumato.images import MAX_PIXELS
    from sfumato.inversion import Inversion
    from sfumato.methods.params import options_of

    inversion = Inversion.load(arguments.image)
    fixed = [name for name in options_of(find_method(arguments.method).params, "invert") if name in given]
    if arguments.source or fixed or arguments.seed != [0] or arguments.seeds is not None:
        raise BadInput(
            "--from, --seed and what else belongs to the inversion are fixed in it: leave them out, or give the image."
        )
    if arguments.max_pixels != MAX_PIXELS:
        raise BadInput("--max-pixels is for reading pictures, and an inversion has its own in it: leave it out.")
    if inversion.parameters.get("method") != arguments.method:
        raise BadInput(f"{arguments.image} was made by {inversion.parameters.get('method')}: leave --method out.")
    height, width = inversion.pixels.shape[1:3] if inversion.pixels is not None else (0, 0)
    return _Found((width, height), len(inversion.prompts), "".join(inversion.prompts[:1]), [])


def _inverted(
    model: "Model", arguments: Namespace, found: _Found, given: dict[str, Any]
) -> tuple["Inverted", "Judge | None"]:
    """The picture inverted, or the inversion taken up, and the judge of --auto: refused first is what can be."""
    texts = [found.source, arguments.target]
    if is_inversion(arguments.image):
        return model.open(arguments.image), load_auto(arguments, model, texts)
    model.check_edit(
        *texts,
        method=arguments.method,
        size=found.size,
        region=region_of(arguments),
        negative_prompt=arguments.negative,
        **given,
    )
    judge = load_auto(arguments, model, texts)
    work = model.invert_steps(
        arguments.image,
        arguments.source,
        method=arguments.method,
        seed=seeds_of(arguments),
        max_pixels=arguments.max_pixels,
        **given,
    )
    return finish(work), judge


def _alike(result: "Result") -> list[str]:
    """A remark where several seeds gave one and the same picture."""
    first, *others = (pixels.tobytes() for pixels in result.pixels)
    if not others or any(other != first for other in others):
        return []
    sentence = "all seeds gave the same picture: with these settings nothing is drawn that the edit depends on."
    remark(sentence)
    return [sentence]


def typed(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag, before the parser that depends on it exists."""
    for n, word in enumerate(words):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag and n + 1 < len(words):
            return words[n + 1]
    return None


def _method_in(words: Sequence[str]) -> str:
    """The method that made the inversion among the words, else the default; directions and weights are none."""
    from sfumato.inversion import Inversion

    for word in words:
        if is_inversion(word) and Inversion.FORMAT.holds(word):
            return str(Inversion.load(word).parameters.get("method", DEFAULT_METHOD))
    return DEFAULT_METHOD
