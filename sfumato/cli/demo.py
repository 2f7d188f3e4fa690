"""`sfumato demo`: the example images edited with the bundled model, on one contact sheet."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.defaults import SHIPPED
from sfumato.cli.model_flags import add_model, load_model, model_files
from sfumato.cli.outputs import refuse_inputs
from sfumato.cli.parser import CommandParser, integer
from sfumato.cli.report import print_json, print_table, say, shown
from sfumato.cli.work import cost_line, finish, made_by, summary
from sfumato.errors import BadInput
from sfumato.examples import Example, examples
from sfumato.suggestions import suggestion

if TYPE_CHECKING:
    from sfumato.api import Result
    from sfumato.images.loaded_image import Pixels

#: Enlargement factor on the sheet of the images of 128 x 128 pixels.
_SCALE = 2


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the output file, the examples and the model."""
    names = ", ".join(example.name for example in examples())
    parser.usage = "sfumato demo [--out SHEET.png] [--only NAME ...] [options]"
    default = Path("out/demo.png")
    parser.add_argument(
        "-o", "--out", type=Path, default=default, metavar="OUT", help=f"contact sheet; default {default}"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"only these examples: {names}; default all")
    parser.add_argument("--seed", type=integer(0), default=0, metavar="N", help="random seed; default 0")
    add_model(parser, SHIPPED)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato demo --out out/demo.png")


def run(arguments: Namespace) -> None:
    """Invert, reconstruct and edit the examples; write the sheet; print the metrics."""
    chosen = _chosen(arguments.only)
    _prepare(arguments.out)
    refuse_inputs(arguments.out, [*(str(each.path) for each in examples()), *model_files(arguments)])
    model = load_model(arguments)
    from sfumato.api.report import made_with
    from sfumato.images import write_image

    sources, targets = [e.source for e in chosen], [e.target for e in chosen]
    if not model.network.takes_text:
        raise BadInput("the demo edits with text prompts, and this model has no text input: give another model.")
    inverted = finish(model.invert_steps([e.path for e in chosen], sources, seed=arguments.seed))
    reconstruction = finish(inverted.reconstruct_steps())
    edit = finish(inverted.edit_steps(targets))
    found = summary(
        [inverted.report, reconstruction.report, edit.report],
        [arguments.out],
        [],
        **made_by(model, arguments.model),
        source_prompts=sources,
        prompts=targets,
        seeds=[arguments.seed],
    )
    found["metrics"] |= reconstruction.report["metrics"]
    sheet = _sheet(chosen, reconstruction, edit, found)
    write_image(arguments.out, sheet, recipe={"operation": "demo", **found["parameters"], **made_with(model.network)})
    if arguments.json:
        print_json(found)
        return
    print_table(_table(chosen, found["metrics"]))
    say(cost_line(found))
    say(str(arguments.out))


def _chosen(names: Sequence[str] | None) -> list[Example]:
    known = {example.name: example for example in examples()}
    for name in names or []:
        if name not in known:
            raise BadInput(f"there is no example {name!r}{suggestion(name, known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


def _prepare(out: Path) -> None:
    """Create the folder of the sheet, unless the extension of its name is invalid. Raises BadInput."""
    from sfumato.images import OUTPUT_FORMATS, check_output

    if out.suffix.lower() in OUTPUT_FORMATS:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"the folder {out.parent} cannot be created ({error.strerror}): choose another.") from error
    check_output(out)


def _sheet(chosen: list[Example], reconstruction: "Result", edit: "Result", found: dict[str, Any]) -> "Pixels":
    """One row per example: source, reconstruction and edit, with the metrics."""
    from sfumato.images import contact_sheet

    rows, labels = [], []
    for n, example in enumerate(chosen):
        psnr, similarity = _numbers(found["metrics"], n)
        rows.append([edit.sources[n].rgb, reconstruction.pixels[n], edit.pixels[n]])
        labels.append(
            [
                f"source\n{example.source}",
                f"reconstruction\nPSNR {psnr} dB",
                f"edit\n{example.target}" + (f"\nsimilarity {similarity}" if similarity else ""),
            ]
        )
    used = found["parameters"]
    settings = ", ".join(
        f"{k} {shown(used[k])}" for k in ("steps", "skip", "source_guidance_scale", "eta") if k in used
    )
    title = f"sfumato: {used['method']}, {settings}\n{cost_line(found)}"
    return contact_sheet(rows, labels, title=title, scale=_SCALE)


def _table(chosen: list[Example], metrics: dict[str, Any]) -> list[list[str]]:
    rows = [["edit", "reconstruction PSNR", "similarity to the target"]]
    for n, example in enumerate(chosen):
        rows.append([f"{example.source} -> {example.target}", *_numbers(metrics, n)])
    return rows


def _numbers(metrics: dict[str, Any], n: int) -> tuple[str, str]:
    """PSNR of the reconstruction in dB; similarity to the target prompt before and after the edit ("" if unknown)."""
    psnr = metrics["reconstruction_psnr"][n]
    before, after = (metrics.get(f"{which}_similarity_to_target") for which in ("source", "edit"))
    similarity = f"{before[n]:.2f} -> {after[n]:.2f}" if before and after else ""
    return "exact" if psnr is None else f"{psnr:.1f}", similarity
