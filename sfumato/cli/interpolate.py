"""`sfumato interpolate`: an animation from one image to another."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.flags import add_time
from sfumato.cli.hints import hints
from sfumato.cli.inputs import add_max_pixels, read_image_and_notes
from sfumato.cli.model_flags import Texts, add_model, load_model, model_files
from sfumato.cli.outputs import add_no_recipe, check_folder, refuse_inputs, refuse_links_out, remark, save_all
from sfumato.cli.parser import CommandParser, integer, real
from sfumato.cli.report import print_json, say
from sfumato.cli.work import cost_line, finish, made_by, summary
from sfumato.errors import BadInput
from sfumato.files import check_writable, printable

if TYPE_CHECKING:
    from sfumato.api import Result

_SHEET_COLUMNS = 6


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the two images, their prompts, the path and the output folder."""
    parser.usage = "sfumato interpolate A B [--from TEXT TEXT] -o FOLDER [options]"
    parser.add_argument("first", metavar="A", help="first image")
    parser.add_argument("second", metavar="B", help="last image, of the same size")
    parser.add_argument(
        "--from", dest="prompts", nargs=2, default=["", ""], metavar="TEXT", help="prompts describing A and B"
    )
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="output folder: frames, contact sheet, animation",
    )
    parser.add_argument(
        "--path",
        default="slerp",
        choices=("lerp", "slerp", "geodesic"),
        metavar="KIND",
        help="interpolation of the latents: lerp, slerp (default) or geodesic",
    )
    parser.add_argument(
        "--frames",
        type=integer(2, 1000),
        default=30,
        metavar="N",
        help="number of frames including A and B; default 30",
    )
    add_time(parser)
    parser.add_argument(
        "--steps", type=integer(1, 1000), metavar="N", help="number of inversion steps; default: the model's own"
    )
    parser.add_argument(
        "--refine", type=integer(0, 100), metavar="N", help="fixed-point iterations per inversion step; default 0"
    )
    parser.add_argument(
        "--guidance", dest="guidance_scale", type=real(0, 100), metavar="N", help="guidance scale; default 1"
    )
    parser.add_argument(
        "--rank", type=integer(1), metavar="N", help="dimension of the tangent spaces; default: at most 20"
    )
    parser.add_argument(
        "--chunk", type=integer(1), metavar="N", help="batch size of products with the Jacobian; default 16"
    )
    parser.add_argument("--measure", action="store_true", help="measure the length of the path")
    parser.add_argument(
        "--lpips", metavar="FOLDER", help="network of the perceptual path length; default: the bundled one"
    )
    parser.add_argument(
        "--animation", default="animation.gif", metavar="NAME", help="file name, ending in .gif, .png or .webp"
    )
    parser.add_argument("--fps", type=real(0.1, 50), default=12.0, metavar="N", help="frames per second; default 12")
    parser.add_argument("--bounce", action="store_true", help="also play the animation backwards, to A")
    add_model(parser)
    add_max_pixels(parser)
    add_no_recipe(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example('sfumato interpolate a.png b.png --from "red apple, noto" "green apple, noto" -o apples')


def run(arguments: Namespace) -> None:
    """Interpolate, save the frames and print a summary."""
    from sfumato.api.path_arguments import check_measured, check_one_size
    from sfumato.images import contact_sheet, write_image
    from sfumato.images.animation import write_animation

    check_measured(arguments.path, arguments.measure, arguments.rank, arguments.chunk, arguments.lpips)
    images, notes = [], []
    for path in (arguments.first, arguments.second):
        image, remarks = read_image_and_notes(path, arguments.max_pixels, restores=False)
        images.append(image)
        notes += remarks
    check_one_size([image.size for image in images])
    paths, sheet, animation = _outputs(arguments)
    model = load_model(arguments, Texts("prompt (--from)", arguments.prompts))
    options = {name: getattr(arguments, name) for name in ("steps", "refine", "guidance_scale")}
    work = model.interpolate_steps(
        arguments.first,
        arguments.second,
        arguments.prompts,
        kind=arguments.path,
        frames=arguments.frames,
        time=arguments.time,
        rank=arguments.rank,
        measure=arguments.measure,
        lpips=arguments.lpips,
        chunk=arguments.chunk,
        max_pixels=arguments.max_pixels,
        **{name: value for name, value in options.items() if value is not None},
    )
    remedy = "scale both images to about the model's size"
    notes += hints(model, arguments.first, images[0].size, arguments.prompts, remedy=remedy)
    result: Result = finish(work)
    _make(arguments.out)
    notes += save_all(result, paths, recipe=not arguments.no_recipe)
    rows = [result.pixels[first : first + _SHEET_COLUMNS] for first in range(0, len(result), _SHEET_COLUMNS)]
    write_image(sheet, contact_sheet(rows))
    write_animation(animation, result.pixels, fps=arguments.fps, bounce=arguments.bounce)
    if result.sources:
        notes.append(f"{sheet} and {animation} are drawn on white; the frames keep the transparency.")
        remark(notes[-1])
    if others := sorted(set(arguments.out.glob("frame-[0-9]*.png")) - {*paths, animation}):
        names = " to ".join(dict.fromkeys((others[0].name, others[-1].name)))
        notes.append(f"{arguments.out} also contains frames of an earlier path: {names}.")
        remark(notes[-1])
    outputs = [*paths, sheet, animation]
    found = summary([result.report], outputs, notes, **made_by(model, arguments.model))
    if arguments.json:
        print_json(found)
        return
    for name, lengths in found["metrics"].items():
        span = f"in segments of {min(lengths):.3g} to {max(lengths):.3g}"
        say(f"{name.replace('_', ' ')} {sum(lengths):.4g}, {span}")
    say(f"{len(paths)} frames, {sheet.name} and {animation.name} in {arguments.out}")
    say(cost_line(found))


def _outputs(arguments: Namespace) -> tuple[list[Path], Path, Path]:
    """Paths of the frames, the sheet and the animation, checked before any work. Raises BadInput."""
    from sfumato.images.animation import check_animation

    check_animation(arguments.animation, arguments.fps)
    out: Path = arguments.out
    digits = max(2, len(str(arguments.frames - 1)))
    paths = [out / f"frame-{n:0{digits}}.png" for n in range(arguments.frames)]
    sheet, animation = out / "sheet.png", out / arguments.animation
    if Path(arguments.animation).name != arguments.animation or animation in (*paths, sheet):
        raise BadInput(
            "--animation must be a file name in the output folder, other than sheet.png and those of the frames, not "
            f"{printable(arguments.animation)}."
        )
    check_folder(out, [path.name for path in (*paths, sheet, animation)])
    refuse_links_out(out, [*paths, sheet, animation])
    keep = [arguments.first, arguments.second, *model_files(arguments)]
    for path in (*paths, sheet, animation):
        if out.is_dir():
            check_writable(path, "another folder")
        refuse_inputs(path, keep)
    return paths, sheet, animation


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"the folder {folder} cannot be created ({error.strerror}): choose another.") from error
