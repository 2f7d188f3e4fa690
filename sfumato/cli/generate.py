"""`sfumato generate`: images generated from prompts."""

from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from sfumato.api.prompts import check_used, uses_negative
from sfumato.cli.defaults import default_model, values_with
from sfumato.cli.flags import (
    add_options,
    add_seeds,
    check_distinct,
    depended_on,
    given_options,
    seeds_of,
    typed,
    typed_all,
)
from sfumato.cli.hints import hints
from sfumato.cli.method_flags import add_edit_options, edit_options
from sfumato.cli.model_flags import Texts, add_model, load_model, model_files, plain_texts
from sfumato.cli.option_checks import check_options, chosen_params
from sfumato.cli.outputs import add_no_recipe, add_out, output_paths, remarks
from sfumato.cli.parser import CommandParser, size
from sfumato.cli.report import print_json
from sfumato.cli.work import finish_and_save, made_by, print_summary, summary


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the prompts, the output, and the parameters of sampling."""
    from sfumato.editing.generate import GenerateParams
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    parser.usage = "sfumato generate TEXT [TEXT ...] -o OUT [options]"
    parser.add_argument("prompts", nargs="*", default=[], metavar="TEXT", help="prompts describing the images")
    add_out(parser)
    parser.add_argument(
        "--size", type=size, metavar="WxH", help="image size in pixels, 64 or 96x64; default: the model's own"
    )
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="negative prompt")
    add_seeds(parser)
    add_model(parser)
    add_no_recipe(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME",
        help="a method that acts on generated images; repeatable",
    )
    model = typed(words, "--model") or default_model().name
    values, origin = values_with(model, GenerateParams, "generate", depended_on(GenerateParams, words))
    add_options(parser, f"sampling ({origin})", options_of(GenerateParams), values)
    add_edit_options(parser, [METHODS.find(name) for name in typed_all(words, "--method")], words)
    parser.example(
        'sfumato generate "red apple, twemoji" -o apple.png',
        'sfumato generate "cat face, noto" "dog face, noto" --seeds 4 -o out.png',
    )


def run(arguments: Namespace) -> None:
    """Generate an image for every pair of a prompt and a seed, save the images and print a summary."""
    from sfumato.editing.generate import GenerateParams
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of
    from sfumato.options.prompt_words import check_named

    given = given_options(arguments, options_of(GenerateParams))
    check_options(chosen_params(GenerateParams, given))
    own = edit_options(arguments, [METHODS.find(name) for name in arguments.method])
    acting = [chosen_params(METHODS.find(name).params, options) for name, options in own.items()]
    texts = plain_texts(arguments, arguments.prompts or [""])
    for each in acting:
        check_options(each)
        check_named(each.named_words, texts, texts)
    defaults, _ = values_with(arguments.model, GenerateParams, "generate", given)
    scale = given.get("guidance_scale", defaults["guidance_scale"])
    check_used(arguments.negative_prompt, partial(uses_negative, acting), [scale])
    seeds = seeds_of(arguments)
    check_distinct(seeds)
    pairs = [(prompt, seed) for prompt in arguments.prompts or [""] for seed in seeds]
    keep = [*(path for each in acting for path in each.files), *model_files(arguments)]
    paths = output_paths(arguments.out, len(pairs), size=arguments.size, keep=keep)
    model = load_model(
        arguments,
        Texts("prompt", arguments.prompts or [""], empty=False),
        Texts("negative prompt", [arguments.negative_prompt]),
    )
    work = model.generate_steps(
        [prompt for prompt, _ in pairs],
        seed=[seed for _, seed in pairs],
        size=arguments.size,
        negative_prompt=arguments.negative_prompt,
        methods=list(own.items()),
        **given,
    )
    prompts = [*arguments.prompts, arguments.negative_prompt]
    notes = hints(model, "the image", arguments.size, prompts, remedy="leave --size out to use the model's size")
    result, lossy = finish_and_save(work, paths, recipe=not arguments.no_recipe)
    notes += lossy + remarks(result.report["notes"])
    found = summary(
        [result.report],
        paths,
        notes,
        **made_by(model, arguments.model),
        prompts=[prompt for prompt, _ in pairs],
        negative_prompt=arguments.negative_prompt,
        seeds=[seed for _, seed in pairs],
    )
    print_json(found) if arguments.json else print_summary(found)
