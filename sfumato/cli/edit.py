"""`sfumato edit`: the main job, a real image edited by text."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.flags import add_model, add_options, add_seeds, check_options, given_options, load_model, seeds_of
from sfumato.cli.inputs import add_max_pixels, read_picture
from sfumato.cli.methods import find_method
from sfumato.cli.outputs import add_out, output_paths, remark, save_all
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, shown
from sfumato.cli.work import finish, made_by, print_summary, summary
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.api import Inverted, Result
    from sfumato.api.regions import Region

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
    parser.add_argument("--mask", metavar="IMAGE", help="white where the picture may change; elsewhere it stays")
    parser.add_argument("--mask-words", default="", metavar="TEXT", help='change only where these words are: "cat,dog"')
    parser.add_argument("--mask-difference", action="store_true", help="change only where the prompts disagree")
    parser.add_argument("--mask-threshold", type=float, metavar="N", help="of the two above; default 0.3 and 1.5")
    parser.add_argument(
        "--auto",
        nargs="?",
        const=True,
        type=float,
        metavar="N",
        help="choose skip and strength; N: wanted CLIP of --to",
    )
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
    _check_auto(arguments, given)
    _region(arguments)
    if is_inversion(arguments.image):
        inverted, paths, notes = _opened(arguments, given)
    else:
        inverted, paths, notes = _inverted(arguments, given)
    edit: dict[str, Any] = {name: given[name] for name in options_of(method.params, "edit") if name in given}
    edit |= {
        "mask": arguments.mask,
        "mask_words": arguments.mask_words,
        "mask_difference": arguments.mask_difference,
        "mask_threshold": arguments.mask_threshold,
        "residual": not arguments.no_residual,
        "negative_prompt": arguments.negative,
    }
    if arguments.auto is not None:
        edit |= _chosen(inverted, arguments, edit, notes)
    result = finish(inverted.edit_steps(arguments.target, check=arguments.check or arguments.json, **edit))
    notes += save_all(result, paths, recipe=not arguments.no_recipe) + _alike(result)
    reports = [inverted.report, result.report] if "seconds" in inverted.report else [result.report]
    first = result.recipes[0]
    found = summary(
        reports,
        paths,
        notes,
        **made_by(inverted.model, arguments.model),
        source_prompt=first["source_prompt"],
        negative_prompt=arguments.negative,
        seeds=[recipe["seed"] for recipe in result.recipes],
        mask=arguments.mask,
        mask_words=arguments.mask_words,
        mask_difference=arguments.mask_difference,
        residual=not arguments.no_residual,
    )
    print_json(found) if arguments.json else print_summary(found)


def _chosen(inverted: "Inverted", arguments: Namespace, edit: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The options that `--auto` finds; what was wanted and reached becomes a remark."""
    from sfumato.api.auto import choose
    from sfumato.cli.progress import progress

    with progress() as show:
        choice = choose(
            inverted,
            arguments.target,
            adherence=None if arguments.auto is True else arguments.auto,
            tell=lambda done, total: show(done, total, f"setting {done}/{total}"),
            **edit,
        )
    options = ", ".join(f"{name} {shown(value)}" for name, value in choice.trial.options.items())
    reached = "reaches" if choice.reached else "comes nearest to"
    notes.append(
        f"auto: {options} {reached} the wanted adherence {choice.wanted:.2f} with {choice.trial.scores['clip']:.2f}, "
        f"LPIPS {choice.trial.scores['lpips']:.2f}; {choice.tried} settings tried."
    )
    remark(notes[-1])
    return choice.trial.options


def _inverted(arguments: Namespace, given: dict[str, Any]) -> tuple["Inverted", list[Path], list[str]]:
    """Everything looked at, the model loaded, the picture inverted; with the outputs, and remarks on the input."""
    seeds = seeds_of(arguments)
    picture, notes = read_picture(arguments.image, arguments.max_pixels)
    paths = output_paths(arguments.out, len(seeds), size=picture.size, keep=inputs(arguments))
    check_mask(arguments.mask, picture.size)
    model = load_model(arguments)
    model.check_edit(
        arguments.source,
        arguments.target,
        method=arguments.method,
        size=picture.size,
        region=_region(arguments),
        negative_prompt=arguments.negative,
        **given,
    )
    work = model.invert_steps(
        arguments.image,
        arguments.source,
        method=arguments.method,
        seed=seeds,
        max_pixels=arguments.max_pixels,
        **given,
    )
    return finish(work), paths, notes


def _region(arguments: Namespace) -> "Region | None":
    """What the flags of masks that nobody painted say. Raises BadInput."""
    from sfumato.api.regions import region

    return region(arguments.mask_words, arguments.mask_difference, arguments.mask_threshold)


def _opened(arguments: Namespace, given: dict[str, Any]) -> tuple["Inverted", list[Path], list[str]]:
    """A saved inversion taken up; its own prompt, seed and parameters hold. Otherwise as `_inverted`."""
    from sfumato.inversion import Inversion
    from sfumato.methods.params import options_of

    inversion = Inversion.load(arguments.image)
    fixed = [name for name in options_of(find_method(arguments.method).params, "invert") if name in given]
    if arguments.source or fixed or arguments.seed != [0] or arguments.seeds is not None:
        raise BadInput(
            "--from, --seed and what else belongs to the inversion are fixed in it: leave them out, or give the image."
        )
    if inversion.parameters.get("method") != arguments.method:
        raise BadInput(f"{arguments.image} was made by {inversion.parameters.get('method')}: leave --method out.")
    height, width = inversion.pixels.shape[1:3] if inversion.pixels is not None else (0, 0)
    paths = output_paths(arguments.out, len(inversion.prompts), size=(width, height), keep=inputs(arguments))
    check_mask(arguments.mask, (width, height))
    return load_model(arguments).open(arguments.image), paths, []


def _check_auto(arguments: Namespace, given: dict[str, Any]) -> None:
    if arguments.auto is None:
        return
    if not arguments.target.strip():
        raise BadInput("--auto chooses by how well the edit fits --to: give it.")
    if arguments.auto is not True and not -1 < arguments.auto < 1:
        raise BadInput(f"--auto takes a similarity between -1 and 1, not {arguments.auto:g}.")
    if len(seeds_of(arguments)) > 1:
        raise BadInput("--auto chooses for one seed at a time: give one --seed.")
    if {"skip", "strength"} <= set(given):
        raise BadInput("--auto has nothing left to choose: leave --skip or --strength out.")


def _alike(result: "Result") -> list[str]:
    """A remark where several seeds gave one and the same picture."""
    first, *others = (pixels.tobytes() for pixels in result.pixels)
    if not others or any(other != first for other in others):
        return []
    sentence = "all seeds gave the same picture: with these settings nothing is drawn that the edit depends on."
    remark(sentence)
    return [sentence]


def is_inversion(path: str) -> bool:
    """Whether a command is given a saved inversion instead of a picture."""
    return path.lower().endswith(".safetensors")


def inputs(arguments: Namespace) -> list[str]:
    """The files that the command reads and must not overwrite."""
    return [path for path in (arguments.image, arguments.mask) if path is not None]


def check_mask(mask: str | None, size: tuple[int, int]) -> None:
    """Refuse a mask that cannot be used before a model is loaded. Raises BadInput."""
    if mask is not None:
        from sfumato.api.finish import inside

        inside(mask, size)


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
