"""`sfumato edit`: text-guided editing of a real image."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.cli.auto import about, add_auto, check_auto, check_source, chosen, load_auto
from sfumato.cli.composed import Composed, add_methods, composed
from sfumato.cli.flags import add_model, add_seeds, load_model, seeds_of, typed_all
from sfumato.cli.hints import hints
from sfumato.cli.inputs import (
    add_masks,
    add_max_pixels,
    inputs,
    is_inversion,
    masks_of,
    read_mask_of,
    read_picture,
    region_of,
)
from sfumato.cli.outputs import add_out, output_paths, remark, save_all
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json
from sfumato.cli.work import finish, made_by, print_summary, summary
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.api import Result
    from sfumato.images import Picture

DEFAULT_METHOD = "edit-friendly"


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the image, the prompts, the output, and the parameters of the methods that `words` name."""
    parser.usage = "sfumato edit IMAGE --from TEXT --to TEXT -o OUT [options]"
    parser.add_argument("image", metavar="IMAGE", help="source image, or an inversion written by `sfumato invert`")
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="prompt describing the source image")
    parser.add_argument("--to", dest="target", default="", metavar="TEXT", help="prompt describing the edited image")
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="negative prompt")
    add_out(parser)
    add_masks(parser)
    add_auto(parser, words)
    add_seeds(parser)
    add_model(parser)
    add_max_pixels(parser)
    parser.add_argument(
        "--no-residual", action="store_true", help="do not add back the reconstruction error of the autoencoder"
    )
    parser.add_argument("--check", action="store_true", help="also measure the reconstruction (--json always does)")
    parser.add_argument("--no-recipe", action="store_true", help="do not save the settings (recipe) in the PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAME",
        help=f"default {DEFAULT_METHOD}, see `sfumato methods`; repeat it to combine methods",
    )
    add_methods(parser, typed_all(words, "--method") or [_method_in(words)])
    parser.example('sfumato edit heart.png --from "red heart, twemoji" --to "blue heart, twemoji" -o out.png')


def run(arguments: Namespace) -> None:
    """Edit, save, report."""
    methods = composed(arguments, arguments.method or [_method_in([arguments.image])])
    methods.check()
    check_auto(arguments, methods.first, methods.run)
    region_of(arguments)
    found = _inversion(arguments, methods) if is_inversion(arguments.image) else _picture(arguments)
    paths = output_paths(arguments.out, found.count, size=found.size, keep=inputs(arguments))
    mask, notes = read_mask_of(arguments, found.size)
    notes = found.notes + notes
    check_source(arguments, found.source)
    model = load_model(arguments)
    edit = masks_of(arguments) | {"mask": mask, "residual": not arguments.no_residual}
    edit |= {"negative_prompt": arguments.negative_prompt}
    check = {"check": arguments.check or arguments.json}
    texts = (found.source, arguments.target)
    prompts = [*texts, arguments.negative_prompt]
    if found.picture is None:
        inverted, evaluator = model.open(arguments.image), load_auto(arguments, model, texts)
        edit |= methods.shared() | {"methods": methods.named()}
        work = inverted.edit_steps(arguments.target, **edit, **check)
        notes += hints(model, arguments.image, found.size, prompts)
    else:
        options = {**_planned(arguments, methods), **edit, **check}
        plan = model.plan(found.picture, found.source, arguments.target, **options)
        evaluator = load_auto(arguments, model, texts)
        notes += hints(model, arguments.image, found.size, prompts)
        inverted = finish(plan.invert())
        edit |= methods.shared() | {"methods": methods.named()}
        work = plan.apply(inverted)
    reports = [inverted.report] if "seconds" in inverted.report else []
    if evaluator is not None:
        choice = chosen(inverted, arguments, evaluator, edit)
        edit |= choice.trial.options
        reports.append(choice.report)
        notes.append(about(choice))
        remark(notes[-1])
        work = inverted.edit_steps(arguments.target, **edit, **check)
    result = finish(work)
    notes += save_all(result, paths, recipe=not arguments.no_recipe) + _alike(result)
    first = result.recipes[0]
    made = summary(
        [*reports, result.report],
        paths,
        notes,
        **made_by(model, arguments.model),
        **masks_of(arguments),
        source_prompt=first["source_prompt"],
        negative_prompt=arguments.negative_prompt,
        seeds=[recipe["seed"] for recipe in result.recipes],
        residual=not arguments.no_residual,
    )
    print_json(made) if arguments.json else print_summary(made)


def _planned(arguments: Namespace, methods: Composed) -> dict[str, Any]:
    """Arguments of `Model.plan` other than the prompts and the masks."""
    names = methods.named() if methods.several else methods.first.name
    return {"methods": names, "seed": seeds_of(arguments)} | dict(methods.run)


@dataclass(frozen=True)
class _Found:
    """The input of the command, read before a model is loaded.

    Attributes:
        size: (width, height) in pixels.
        count: number of results.
        source: prompt describing the source image.
        notes: remarks on reading it.
        picture: the source image, or None for an inversion.
    """

    size: tuple[int, int]
    count: int
    source: str
    notes: list[str]
    picture: "Picture | None" = None


def _picture(arguments: Namespace) -> _Found:
    seeds = seeds_of(arguments)
    picture, notes = read_picture(arguments.image, arguments.max_pixels)
    return _Found(picture.size, len(seeds), arguments.source, notes, picture)


def _inversion(arguments: Namespace, methods: Composed) -> _Found:
    """Read a saved inversion, which determines the source prompt, the seed and the parameters of the inversion."""
    from sfumato.images import MAX_PIXELS
    from sfumato.inversion import Inversion

    inversion = Inversion.load(arguments.image)
    methods.check_unnamed([arguments.source, "" if arguments.seed == [0] else "seed", arguments.seeds])
    if arguments.max_pixels != MAX_PIXELS:
        raise BadInput("--max-pixels is for reading pictures, and an inversion contains its picture: leave it out.")
    for method in methods.methods:
        method.check_accepts(inversion.kind)
    height, width = inversion.pixels.shape[1:3] if inversion.pixels is not None else (0, 0)
    return _Found((width, height), len(inversion.prompts), "".join(inversion.prompts[:1]), [])


def _alike(result: "Result") -> list[str]:
    """A remark if all of several seeds gave the same image, otherwise nothing."""
    first, *others = (pixels.tobytes() for pixels in result.pixels)
    if not others or any(other != first for other in others):
        return []
    sentence = "all seeds gave the same picture: with these settings the edit does not depend on the seed."
    remark(sentence)
    return [sentence]


def _method_in(words: Sequence[str]) -> str:
    """The method of the first saved inversion among the words; the default if there is no inversion."""
    from sfumato.inversion import Inversion

    for word in words:
        if is_inversion(word) and Inversion.FORMAT.holds(word):
            return str(Inversion.load(word).parameters.get("method", DEFAULT_METHOD))
    return DEFAULT_METHOD
