"""Measurements for "Unsupervised Discovery of Semantic Latent Directions" (Park, Kwon, Jo, Uh; arXiv 2302.12469).

    python papers/geometry.py --model emoji --out out/geometry

writes a figure for every part, numbers.json and fragment.md. The results of each part are stored, so that the same
command resumes after an interruption. `--page FILE` inserts the claims into a page between its markers, and copies the
figures next to it. Requires the extra `papers`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import sfumato
from papers.claim import about_machine, about_model, as_json, say
from papers.latent_geometry import change, claims, distortion, edits, local, timing, walks
from papers.latent_geometry.kept import kept
from papers.latent_geometry.study import Size, Study, faces
from papers.page import publish, reported
from sfumato.errors import BadInput
from sfumato.metrics import Evaluator

FIGURES = (
    *("local.png", "edits.png", "timing.png", "change.png"),
    *("distortion.png", "curvature.png", "paths.png", "animations.png"),
)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    usual = Size()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name, folder, hub id or .safetensors file")
    parser.add_argument("--out", type=Path, default=Path("out/geometry"), help="folder of the figures and numbers")
    parser.add_argument("--prompts", nargs="+", help="prompts of the samples; faces of people and animals by default")
    parser.add_argument(
        "--clip", help="dual encoder that scores the edits; default the model's own, or the bundled one"
    )
    parser.add_argument("--data", type=Path, help="emoji corpus whose pairs define the attributes; default: captions")
    parser.add_argument("--samples", type=int, help=f"number of generated images; default {usual.samples}")
    parser.add_argument("--pairs", type=int, help=f"number of pairs of latents for paths; default {usual.pairs}")
    parser.add_argument("--geodesics", type=int, help=f"number of pairs with a geodesic; default {usual.geodesics}")
    parser.add_argument("--segments", type=int, help=f"segments of a path; default {usual.segments}")
    parser.add_argument("--steps", type=int, help=f"steps of every run; default {usual.steps}")
    parser.add_argument("--gamma", type=float, help=f"length of an edit; default {usual.gamma:g}")
    parser.add_argument(
        "--guidance",
        dest="guidance_scale",
        type=float,
        help=f"guidance scale of the runs; default {usual.guidance_scale:g}",
    )
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the claims into")
    parser.add_argument("--quick", action="store_true", help="few samples and steps: a smoke test")
    return parser.parse_args(words)


def the_size(given: argparse.Namespace) -> Size:
    """The size of the measurement, from the command line.

    Raises:
        BadInput: a number is too small for a comparison.
    """
    size = Size.quick() if given.quick else Size()
    names = ("samples", "pairs", "geodesics", "segments", "steps", "gamma", "guidance_scale")
    size = replace(size, **{name: getattr(given, name) for name in names if getattr(given, name) is not None})
    for name, low in (("samples", 3), ("pairs", 1), ("geodesics", 1), ("segments", 3), ("steps", 1)):
        if getattr(size, name) < low:
            raise BadInput(f"--{name} must be at least {low}, not {getattr(size, name)}.")
    return size


def evaluator_of(model: sfumato.Model, clip: str | None) -> Evaluator:
    """The evaluator of the edits: `clip`, or the model's own dual encoder, or the bundled one."""
    own = None if model.folder is None else model.folder / "dual_encoder"
    return Evaluator.load(clip or (own if own is not None and own.is_dir() else None), device=model.network.device)


def measure(study: Study, out: Path) -> dict[str, Any]:
    """Measure every part and draw its figure. Returns all numbers as JSON values."""
    model = study.model
    numbers: dict[str, Any] = {"model": about_model(model), "environment": about_machine(model)}
    numbers |= {"size": asdict(study.size), "prompts": list(study.prompts)}
    say("local bases over time")
    numbers["local"] = kept(study, out, "local", local.VERSION, local.measure)
    local.draw(out / "local.png", numbers["local"])
    say("edits along directions of every kind")
    name = "edits" if study.corpus is None else "edits-pairs"
    numbers["edits"] = kept(study, out, name, edits.VERSION, partial(edits.measure, sheet=out / "edits.png"))
    say("edits at several timesteps")
    numbers["timing"] = kept(study, out, "timing", timing.VERSION, partial(timing.measure, sheet=out / "timing.png"))
    numbers["change"] = kept(study, out, "change", change.VERSION, change.measure)
    change.draw(out / "change.png", numbers["change"])
    say("normalisation")
    version = distortion.VERSION
    work = partial(distortion.measure, sheet=out / "distortion.png")
    numbers["distortion"] = kept(study, out, "distortion", version, work)
    say("shooting")
    work = partial(distortion.curvature, sheet=out / "curvature.png")
    numbers["curvature"] = kept(study, out, "curvature", version, work)
    numbers["paths"] = walks.measure(study, out, say)
    walks.draw(out / "paths.png", numbers["paths"])
    kept(study, out, "animations", walks.VERSION, partial(walks.draw_animations, path_of=out / "animations.png"))
    return numbers


def work(given: argparse.Namespace) -> None:
    """Measure, draw and write the results."""
    size = the_size(given)
    model = sfumato.load(given.model, given.device)
    study = Study(model, tuple(given.prompts or faces(model)), size, evaluator_of(model, given.clip), given.data)
    given.out.mkdir(parents=True, exist_ok=True)
    numbers = measure(study, given.out)
    found = claims.check(numbers)
    publish(given, claims.as_markdown(numbers, found), numbers | {"claims": as_json(found)}, FIGURES)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script. Returns an exit code."""
    given = arguments(words)
    return reported(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
