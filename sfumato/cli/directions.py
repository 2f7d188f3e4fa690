"""`sfumato directions`: unsupervised or text directions and delta-h, computed once and applied to any image."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sfumato.cli.banks import bank, bank_flags, text, text_flags
from sfumato.cli.described import described, described_delta, described_text, load_directions, print_directions
from sfumato.cli.directed import apply, apply_flags, show, show_flags
from sfumato.cli.flags import add_time
from sfumato.cli.inputs import check_saved
from sfumato.cli.model_flags import add_model, load_model, model_files
from sfumato.cli.outputs import refuse_inputs
from sfumato.cli.parser import CommandParser, integer, real, size
from sfumato.cli.progress import progress
from sfumato.cli.report import print_json, print_table
from sfumato.cli.work import counted
from sfumato.errors import BadInput
from sfumato.files import check_writable
from sfumato.suggestions import suggestion

#: Action -> (usage, summary in one line).
ACTIONS = {
    "find": ("-o FILE [options]", "find unsupervised directions that many generated images share"),
    "text": (
        "-o FILE --source-word TEXT --target-word TEXT",
        "compute the text direction between two words or banks of sentences",
    ),
    "bank": ("WORD -o FILE", "write the built-in sentences about a word, for editing by hand"),
    "list": ("FILE|FOLDER ... [--json]", "list the directions in files"),
    "show": ("FILE [IMAGE -o SHEET] [options]", "print the directions of a file, or draw their effect on an image"),
    "name": ("FILE OLD=NEW ...", "rename the directions of a file"),
    "apply": ("IMAGE FILE -o OUT [options]", "move an image along a direction or a mixture of directions"),
}


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the arguments of the action, which is the first of `words`."""
    action = words[0] if words and words[0] in ACTIONS else ""
    parser.usage = f"sfumato directions {action} {ACTIONS[action][0]}" if action else "sfumato directions ACTION ..."
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    if not action:
        lines = "\n".join(f"  {name:<7}{summary}" for name, (_, summary) in ACTIONS.items())
        parser.description = f"{parser.description}\n\nactions:\n{lines}"
        parser.add_argument("rest", nargs="*", metavar="...", help="see `sfumato directions ACTION --help`")
        parser.example("sfumato directions find -o d.safetensors", "sfumato directions find --help")
        return
    parser.description = f"{ACTIONS[action][1][0].upper()}{ACTIONS[action][1][1:]}."
    flags: dict[str, Callable[[CommandParser], None]] = {
        "find": _find_flags,
        "text": text_flags,
        "bank": bank_flags,
        "list": _list_flags,
        "show": show_flags,
        "name": _name_flags,
        "apply": partial(apply_flags, words=words),
    }
    flags[action](parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: Namespace) -> None:
    """Run the action."""
    actions = {
        "find": _find,
        "text": text,
        "bank": bank,
        "list": _list,
        "show": show,
        "name": _name,
        "apply": apply,
    }
    if arguments.action not in actions:
        raise BadInput(f"directions has no action {arguments.action!r}{suggestion(arguments.action, actions)}")
    if hasattr(arguments, "rest"):
        raise BadInput(f"give the action first: sfumato directions {arguments.action} {ACTIONS[arguments.action][0]}")
    actions[arguments.action](arguments)


def _find_flags(parser: CommandParser) -> None:
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FILE", help="output .safetensors file")
    parser.add_argument("--prompt", nargs="+", default=[""], metavar="TEXT", help="prompts, cycled over the samples")
    parser.add_argument("-n", type=integer(1), default=10, metavar="N", help="number of directions; default 10")
    parser.add_argument(
        "--samples", type=integer(2), default=50, metavar="N", help="number of generated images; default 50"
    )
    add_time(parser)
    parser.add_argument(
        "--steps", type=integer(1, 1000), metavar="N", help="number of sampling steps; default: the model's own"
    )
    parser.add_argument(
        "--kind", default="pullback", choices=("pullback", "pca"), help="pca is a baseline; default pullback"
    )
    parser.add_argument(
        "--names", nargs="+", default=[], metavar="NAME", help="names of the directions; default: their numbers"
    )
    parser.add_argument("--keep-positions", action="store_true", help="do not sum the bottleneck over its positions")
    parser.add_argument(
        "--size", type=size, metavar="WxH", help="image size in pixels, 64 or 96x64; default: the model's own"
    )
    parser.add_argument(
        "--seed", type=integer(0), default=0, metavar="N", help="random seed of the first sample; default 0"
    )
    parser.add_argument(
        "--guidance",
        dest="guidance_scale",
        type=real(0, 100),
        metavar="N",
        help="guidance scale; default: the model's own",
    )
    parser.add_argument(
        "--chunk", type=integer(1), default=16, metavar="N", help="batch size of products with the Jacobian; default 16"
    )
    add_model(parser)
    parser.example('sfumato directions find --prompt "woman, noto" "man, noto" -o people.safetensors')


def _find(arguments: Namespace) -> None:
    if arguments.out.suffix.lower() != ".safetensors" or not arguments.out.absolute().parent.is_dir():
        raise BadInput(f"{arguments.out}: directions are written to a .safetensors file in a folder that exists.")
    check_writable(arguments.out, "a set of directions")
    refuse_inputs(arguments.out, model_files(arguments))
    model = load_model(arguments)
    from sfumato.api.finding import search_directions

    with progress() as show, counted(model) as report:
        found = search_directions(
            model,
            arguments.prompt,
            n=arguments.n,
            samples=arguments.samples,
            time=arguments.time,
            steps=arguments.steps,
            kind=arguments.kind,
            names=arguments.names,
            keep_positions=arguments.keep_positions,
            size=arguments.size,
            seed=arguments.seed,
            guidance_scale=arguments.guidance_scale,
            chunk=arguments.chunk,
            callback=lambda what, done, total: show(done, total, f"{what} {done}/{total}"),
        )
    found.save(arguments.out)
    print_directions(arguments.out, found, arguments.json, reports=[report])


def _list_flags(parser: CommandParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="direction files, or folders with them")
    parser.example("sfumato directions list .")


def _list(arguments: Namespace) -> None:
    for path in arguments.paths:
        check_saved(path, "a set of directions")
    from sfumato.geometry import Directions
    from sfumato.shifts.delta_h import DeltaH
    from sfumato.shifts.text_direction import TextDirection

    rows, files = [["file", "kind", "timestep", "samples", "directions"]], []
    for path in _files(arguments.paths):
        if TextDirection.FORMAT.matches(path):
            text = TextDirection.load(path)
            counts = f"{len(text.source)}, {len(text.target)}"
            rows.append([str(path), "text", "every", counts, f"{text.source[0]} -> {text.target[0]}"])
            files.append(described_text(path, text))
        elif DeltaH.FORMAT.matches(path):
            delta = DeltaH.load(path)
            texts = f"{delta.attribute}: {delta.source} -> {delta.target}"
            rows.append([str(path), "delta-h", f"{delta.timesteps[0]} to {delta.timesteps[-1]}", "", texts])
            files.append(described_delta(path, delta))
        else:
            found = Directions.load(path)
            rows.append([str(path), found.kind, str(found.t), str(found.samples), ", ".join(found.names)])
            files.append(described(path, found))
    print_json({"files": files}) if arguments.json else print_table(rows)


def _files(paths: Sequence[Path]) -> list[Path]:
    """The given files and all direction files in the given folders. Raises BadInput for a folder without such files."""
    from sfumato.geometry import Directions
    from sfumato.shifts.delta_h import DeltaH
    from sfumato.shifts.text_direction import TextDirection

    formats, found = (Directions.FORMAT, TextDirection.FORMAT, DeltaH.FORMAT), list[Path]()
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        every = sorted(path.glob("*.safetensors"))
        inside = [each for each in every if any(kind.matches(each) for kind in formats)]
        if not inside:
            raise BadInput(f"{path} contains no files of directions.")
        found += inside
    return found


def _name_flags(parser: CommandParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="file of directions, which is overwritten")
    parser.add_argument("names", nargs="+", metavar="OLD=NEW", help="current name or number, and new name")
    parser.example('sfumato directions name people.safetensors 1=age "3=hair length"')


def _name(arguments: Namespace) -> None:
    pairs = [each.partition("=")[::2] for each in arguments.names]
    names = dict(pairs)
    if len(names) < len(pairs):
        twice = next(old for old, _ in pairs if sum(old == other for other, _ in pairs) > 1)
        raise BadInput(f'Direction "{twice}" is renamed twice: give it one new name.')
    renamed = load_directions(arguments.file).renamed(names)
    renamed.save(arguments.file)
    print_directions(arguments.file, renamed, arguments.json)
