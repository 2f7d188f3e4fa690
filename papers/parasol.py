"""Comparison of PARASOL with ground-truth drawings: parametric style control on held-out cells of the corpus.

    sfumato data emoji --out data/emoji
    python papers/parasol.py --out out/parasol

arXiv 2303.06464. Writes the figures, numbers.json and fragment.md. The results of each part are stored, so that the
same command resumes after an interruption. `--page FILE` inserts the claims into a page between its markers, and copies
the figures next to it. A cell is a (content, style) pair of the corpus that is not in the training data. The content
image is the same content in another style; the drawing of the cell is the ground truth.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import sfumato
from papers.claim import about_machine, about_model, as_json, say
from papers.kept import kept
from papers.page import publish, reported
from papers.sizes import add_sizes, chosen_size
from papers.styled import ablations, cells, claims, control, figures, references, uses
from papers.styled.study import Numbers, Size, Study
from sfumato.bench.evaluating import evaluator_fingerprint
from sfumato.data.corpus import TABLE
from sfumato.errors import BadInput
from sfumato.metrics import Evaluator
from sfumato.metrics.perceptual import EFFICIENTNET
from sfumato.models.bundled import bundled_parasol
from sfumato.style.describers import MODALITIES, Describers
from sfumato.style.tokens import Parasol
from sfumato.train.recipe import load_recipe
from sfumato.train.style_report import report as report_encoders

FIGURES = (
    *("examples.png", "comparison.png", "lambda.png", "scales.png", "lambda_scale.png", "interpolation.png"),
    *("texts.png", "diversity.png", "session.png"),
)
PARTS: dict[str, tuple[int, Callable[[Study], Numbers], tuple[str, ...]]] = {
    "encoders": (1, lambda study: encoders(study), ("known",)),
    "cells": (cells.VERSION, cells.measure, ("steps", "cells", "translated")),
    "references": (references.VERSION, references.measure, ("cells",)),
    "control": (control.VERSION, control.measure, ("steps", "controlled")),
    "from noise": (control.NOISE_VERSION, control.from_noise, ("steps", "controlled")),
    "uses": (uses.VERSION, uses.measure, ("steps", "used")),
    "ablations": (ablations.VERSION, ablations.measure, ("steps", "ablated")),
}
"""Version, measurement and sizes of every part."""


def encoders(study: Study) -> Numbers:
    """Retrieval and linear probes of the encoders on the split `test`."""
    return dict(report_encoders(study.data, study.describers, ["test"], study.size.known)["test"])


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name, folder or hub id")
    parser.add_argument("--parasol", type=Path, help="file from sfumato train parasol; default: the bundled one")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/emoji-parasol.toml"), help="its recipe")
    parser.add_argument(
        "--ablation", type=_ablation, action="append", default=[], metavar="NAME=FILE",
        help="PARASOL file of a training without a part of the method; NAME is one of "
        f"{', '.join(ablations.REMOVED)}, or {ablations.ALL} for the training of equal length that they are compared "
        "with",
    )  # fmt: skip
    parser.add_argument("--content-encoder", default="", help="C of the file; default: the bundled one")
    parser.add_argument("--style-encoder", default="", help="A of the file; default: the bundled one")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="folder of the corpus")
    parser.add_argument("--out", type=Path, default=Path("out/parasol"), help="folder of the numbers")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the claims into")
    add_sizes(parser, Size())
    return parser.parse_args(words)


def _ablation(text: str) -> tuple[str, Path]:
    """A name and the path of a PARASOL file."""
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(path)


def measured(study: Study, out: Path, name: str) -> Numbers:
    """The numbers of a part, read from `out/parts/NAME.json` if the networks and the settings are unchanged."""
    version, work, sizes = PARTS[name]
    path = out / "parts" / f"{name}.json"
    belongs: dict[str, Any] = {each: asdict(study.size)[each] for each in sizes}
    belongs |= {"version": version, "model": study.model.network.fingerprint()}
    files = {"parasol": study.parasol, **(study.ablations if name == "ablations" else {})}
    belongs |= {"parasol": {each: sha256(path.read_bytes()).hexdigest() for each, path in files.items()}}
    belongs |= {"kinds": list(study.kinds), "evaluator": evaluator_fingerprint(study.evaluator)}
    belongs |= {modality: study.describers.of(modality).fingerprint for modality in MODALITIES}
    belongs |= {"corpus": sha256((study.data / TABLE).read_bytes()).hexdigest()}
    return kept(path, belongs, lambda: work(study))


def work(given: argparse.Namespace) -> None:
    """Measure and write the results."""
    size = chosen_size(given, Size(), Size.quick())
    chosen = {name: getattr(given, name) for name in ("content_encoder", "style_encoder") if getattr(given, name)}
    describers = Describers.load(given.content_encoder or None, given.style_encoder or None)
    parasol = given.parasol or bundled_parasol(given.model)
    if parasol is None:
        raise BadInput(f"There is no bundled PARASOL file for {given.model}: give its file as --parasol.")
    ablations.check_names(dict(given.ablation))
    for path in (parasol, *dict(given.ablation).values()):
        Parasol.load(path).check_describers(describers)
    kinds = load_recipe(given.recipe, "parasol").data.subgroups or ()
    # LPIPS with a network that no training loss uses
    evaluator = replace(Evaluator.load(given.content_encoder or None, perceptual=EFFICIENTNET), style=describers.style)
    study = Study(
        sfumato.load(given.model), parasol, chosen, given.data, given.out / "styles", size, evaluator, describers,
        tuple(kinds), dict(given.ablation),
    )  # fmt: skip
    numbers: dict[str, Any] = {"model": about_model(study.model), "environment": about_machine(study.model)}
    numbers["size"] = asdict(size)
    for name in PARTS:
        say(name)
        numbers[name] = measured(study, given.out, name)
    say("figures")
    figures.draw(study, given.out)
    found = claims.check(numbers)
    publish(given, claims.as_markdown(numbers, found), numbers | {"claims": as_json(found)}, FIGURES)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script. Returns an exit code."""
    given = arguments(words)
    return reported(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
