"""`sfumato edit`: text-guided editing of real images."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.auto import about, add_auto, check_auto, check_scoring, chosen, load_auto
from sfumato.cli.composed import Composed, composed
from sfumato.cli.flags import add_seeds, typed, typed_all
from sfumato.cli.given import Flags
from sfumato.cli.hints import hints
from sfumato.cli.inputs import (
    add_masks,
    add_max_pixels,
    add_no_mask,
    add_resolution,
    check_region_words,
    check_resolution,
    is_inversion,
    limit_of,
    masks_of,
    read_mask_of,
)
from sfumato.cli.method_flags import add_methods
from sfumato.cli.model_flags import Texts, add_model, load_model, model_files, plain_texts
from sfumato.cli.outputs import add_no_recipe, output_paths, paths_in, remark, remarks, save_all
from sfumato.cli.parser import CommandParser
from sfumato.cli.recipe_files import image_file
from sfumato.cli.repeat import note_other_model, read_edit
from sfumato.cli.report import print_json
from sfumato.cli.sources import Sources, read_image_sources, read_inversion
from sfumato.cli.work import finish, finish_and_save, made_by, print_summary, summary
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.formats import INVERSION

if TYPE_CHECKING:
    from sfumato.api import Model, Result
    from sfumato.images import Mask

DEFAULT_METHOD = "edit-friendly"


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the images, the prompts, the outputs, and the parameters of the methods that `words` select."""
    parser.usage = "sfumato edit IMAGE [IMAGE ...] --from TEXT --to TEXT -o OUT [options]"
    text = "source images, or an inversion written by `sfumato invert`"
    parser.add_argument("images", nargs="*", default=[], metavar="IMAGE", help=text)
    for flag, name, text in (
        ("--from", "sources", "prompt describing the source image; repeatable, one per image"),
        ("--to", "targets", "prompt describing the edited image; repeatable"),
    ):
        parser.add_argument(flag, dest=name, action="append", default=[], metavar="TEXT", help=text)
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="negative prompt")
    several = "output image; several results become out-0.png, out-1.png, ..."
    parser.add_argument("-o", "--out", type=Path, metavar="OUT", help=several)
    parser.add_argument("--out-dir", type=Path, metavar="FOLDER", help="or a folder for NAME.png of every image")
    text = "repeat this image's edit, or apply it to IMAGE; --no-mask: no mask"
    parser.add_argument("--recipe", metavar="FILE", help=text)
    add_masks(parser)
    add_no_mask(parser)
    add_auto(parser, words)
    add_seeds(parser)
    add_model(parser)
    add_max_pixels(parser)
    add_resolution(parser)
    parser.add_argument(
        "--no-residual", action="store_true", help="do not add back the reconstruction error of the autoencoder"
    )
    parser.add_argument("--check", action="store_true", help="also measure the reconstruction (--json always does)")
    add_no_recipe(parser)
    parser.add_argument("--keep-gps", action="store_true", help="keep the position in the EXIF of the source")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAME",
        help=f"default {DEFAULT_METHOD}, see `sfumato methods`; several are combined",
    )
    add_methods(parser, typed_all(words, "--method") or [_method_in(words)], words)
    parser.example('sfumato edit heart.png --from "red heart, twemoji" --to "blue heart, twemoji" -o out.png')


def flags_of_files(words: Sequence[str]) -> list[Flags]:
    """The flags from the recipe in the image after --recipe."""
    path = typed(words, "--recipe")
    return [] if path is None else [read_edit(path, words, limit_of(words))]


@dataclass(frozen=True)
class _Request:
    """What is read and checked before a model is loaded."""

    methods: Composed
    sources: Sources
    paths: list[Path]
    mask: "Mask | None"
    notes: list[str]


def run(arguments: Namespace) -> None:
    """Edit, save, report."""
    request = _checked(arguments)
    found, methods, notes = request.sources, request.methods, request.notes
    model = _loaded(arguments, request)
    if arguments.recipe is not None:
        notes += note_other_model(arguments.recipe, model, arguments.max_pixels)
    edit = masks_of(arguments) | {"mask": request.mask, "residual": not arguments.no_residual}
    edit |= {"negative_prompt": arguments.negative_prompt}
    check = {"check": arguments.check or arguments.json}
    plan = None
    if found.inversion is None:
        plan = model.plan(found.images, found.prompts, found.targets, **_planned(found, methods), **edit, **check)
    evaluator = load_auto(arguments, model, [found.prompts[0], found.targets[0]])
    prompts = [*found.prompts, *found.targets, arguments.negative_prompt]
    for name, size in zip(arguments.images, found.sizes, strict=True):
        notes += hints(model, name, size, prompts, found.resolution)
    if plan is not None:
        inverted = finish(plan.invert())
    else:
        assert found.inversion is not None
        inverted = model.open_loaded(found.inversion, arguments.images[0])
    edit |= methods.shared() | {"methods": methods.named()}
    reports = [inverted.report] if "seconds" in inverted.report else []
    kept = {"recipe": not arguments.no_recipe, "keep_gps": arguments.keep_gps}
    if evaluator is None:
        work = inverted.edit_steps(found.targets, **edit, **check) if plan is None else plan.apply(inverted)
        result, lossy = finish_and_save(work, request.paths, **kept)
    else:
        if check["check"]:
            reports.append(finish(inverted.reconstruct_steps()).report)
        choice = chosen(inverted, arguments, evaluator, edit)
        reports.append(choice.report)
        notes.append(about(choice))
        remark(notes[-1])
        result = choice.result
        lossy = save_all(result, request.paths, **kept)
    notes += lossy + _alike(result, found) + remarks(result.report["notes"])
    _print(arguments, request.paths, model, [*reports, result.report], notes, result)


def _checked(arguments: Namespace) -> _Request:
    """Read the images and check all arguments. Raises BadInput."""
    if arguments.recipe is not None and not arguments.images:
        arguments.images = [image_file(arguments.recipe, arguments.max_pixels)]
    methods = composed(arguments, arguments.method or [_method_in(arguments.images)])
    found = _sources(arguments, methods)
    paths = _outputs(arguments, found, methods)
    methods.check()
    check_resolution(arguments)
    texts = [plain_texts(arguments, each) for each in (found.prompts, found.targets)]
    check_region_words(arguments, *texts)
    methods.check_words(*texts)
    check_auto(arguments, methods.first, methods.run, found.count)
    if found.inversion is None and arguments.auto is None:
        methods.check_negative(arguments.negative_prompt)
    mask, notes = _mask(arguments, found)
    check_scoring(arguments, found.prompts[0])
    return _Request(methods, found, paths, mask, [*found.notes, *notes])


def _loaded(arguments: Namespace, request: _Request) -> "Model":
    """Load the model, after the prompts were checked."""
    found, methods = request.sources, request.methods
    fixed = found.inversion is not None
    return load_model(
        arguments,
        Texts("source prompt (--from)", found.prompts, empty=fixed or not methods.first.params.needs_text),
        Texts("target prompt (--to)", found.targets, empty=methods.keeps_prompt),
        Texts("negative prompt", [arguments.negative_prompt]),
    )


def _print(
    arguments: Namespace,
    paths: Sequence[Path],
    model: "Model",
    reports: Sequence[dict[str, Any]],
    notes: list[str],
    result: "Result",
) -> None:
    """Print the summary, as text or JSON."""
    made = summary(
        reports,
        paths,
        notes,
        **made_by(model, arguments.model),
        **masks_of(arguments),
        **_of_recipes(result),
        negative_prompt=arguments.negative_prompt,
        residual=not arguments.no_residual,
    )
    print_json(made) if arguments.json else print_summary(made)


def _sources(arguments: Namespace, methods: Composed) -> Sources:
    """The images or the inversion, read before a model is loaded. Raises BadInput."""
    if not arguments.images:
        raise BadInput("give the image to edit, or --recipe with an image that sfumato edited (sfumato edit --help).")
    inversions = [path for path in arguments.images if is_inversion(path)]
    if not inversions:
        return read_image_sources(arguments)
    if len(arguments.images) > 1:
        raise BadInput(f"{inversions[0]} is an inversion, which must be the only input: give it alone.")
    return read_inversion(arguments, methods)


def _outputs(arguments: Namespace, found: Sources, methods: Composed) -> list[Path]:
    """The path of every result. Raises BadInput unless exactly one of -o and --out-dir is given and can be written."""
    if (arguments.out is None) == (arguments.out_dir is None):
        raise BadInput("give the output: -o/--out OUT, or --out-dir FOLDER (see sfumato edit --help).")
    inputs = *arguments.images, arguments.mask, arguments.recipe, *methods.files, *model_files(arguments)
    keep = [path for path in inputs if path is not None]
    if arguments.out is not None:
        return output_paths(arguments.out, found.count, size=max(found.sizes, key=max), keep=keep)
    return paths_in(arguments.out_dir, arguments.images, found.count, keep=keep)


def _mask(arguments: Namespace, found: Sources) -> "tuple[Mask | None, list[str]]":
    """The mask with remarks. Raises BadInput; with --recipe, the message says how to edit without the recipe's mask."""
    if arguments.no_mask and (arguments.mask or arguments.mask_words or arguments.mask_difference):
        raise BadInput("give --no-mask or a mask, not both.")
    try:
        return read_mask_of(arguments, *found.sizes)
    except BadInput as error:
        if arguments.recipe is None or arguments.mask is None:
            raise
        recipe = printable(arguments.recipe)
        raise BadInput(f"{str(error).rstrip('.')}; --no-mask leaves out a mask of the recipe of {recipe}.") from error


def _planned(found: Sources, methods: Composed) -> dict[str, Any]:
    """Arguments of `Model.plan` other than the images, the prompts and the masks."""
    return {"seed": found.seeds, "resolution": found.resolution, "tiles": found.tiles, **methods.planned()}


def _of_recipes(result: "Result") -> dict[str, Any]:
    """Source prompts and seeds of the results for the summary; one source prompt if all are equal."""
    prompts = list(dict.fromkeys(recipe["source_prompt"] for recipe in result.recipes))
    named = (
        {"source_prompt": prompts[0]}
        if len(prompts) == 1
        else {"source_prompts": [recipe["source_prompt"] for recipe in result.recipes]}
    )
    return named | {"seeds": [recipe["seed"] for recipe in result.recipes]}


def _alike(result: "Result", found: Sources) -> list[str]:
    """A remark if several seeds all gave the same image; otherwise []."""
    first, *others = (pixels.tobytes() for pixels in result.pixels)
    if (
        len(found.seeds) == 1
        or len(found.sizes) > 1
        or len(found.targets) > 1
        or any(other != first for other in others)
    ):
        return []
    sentence = "all seeds gave the same image: with these settings the edit does not depend on the seed."
    remark(sentence)
    return [sentence]


def _method_in(words: Sequence[str]) -> str:
    """The method of the first saved inversion among the words; the default if there is no inversion."""
    for word in words:
        if is_inversion(word) and Path(word).is_file() and (header := INVERSION.header(word)) is not None:
            found = header.get("parameters") if isinstance(header, dict) else None
            return str(found.get("method", DEFAULT_METHOD)) if isinstance(found, dict) else DEFAULT_METHOD
    return DEFAULT_METHOD
