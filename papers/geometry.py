"""Unsupervised Discovery of Semantic Latent Directions (Park, Kwon, Jo, Uh; arXiv 2302.12469), measured.

    python papers/geometry.py --model emoji --out out/geometry

writes a figure for every part, numbers.json and fragment.md. What has been measured is kept part by part: the same
command goes on where it was interrupted. `--page FILE` puts the claims into a page between its marks, and the figures
beside it. Needs the extra `papers`.
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
from papers.latent_geometry.study import Size, Study, people
from papers.page import publish, reported
from sfumato.errors import BadInput
from sfumato.metrics import Evaluator

FIGURES = (
    *("local.png", "edits.png", "timing.png", "change.png"),
    *("distortion.png", "curvature.png", "paths.png", "animations.png"),
)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    usual = Size()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name, folder, hub id or .safetensors file")
    parser.add_argument("--out", type=Path, default=Path("out/geometry"), help="folder of the figures and numbers")
    parser.add_argument("--prompts", nargs="+", help="of the samples; people of the corpus by default")
    parser.add_argument("--clip", help="dual encoder that scores the edits; the model's own, else the shipped one")
    parser.add_argument("--samples", type=int, help=f"generated pictures; default {usual.samples}")
    parser.add_argument("--pairs", type=int, help=f"pairs of latents for paths; default {usual.pairs}")
    parser.add_argument("--segments", type=int, help=f"of a path; default {usual.segments}")
    parser.add_argument("--steps", type=int, help=f"of every run; default {usual.steps}")
    parser.add_argument("--gamma", type=float, help=f"length of an edit; default {usual.gamma:g}")
    parser.add_argument(
        "--guidance", dest="guidance_scale", type=float, help=f"guidance of the runs; default {usual.guidance_scale:g}"
    )
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--page", type=Path, help="Markdown page to put the claims into")
    parser.add_argument("--quick", action="store_true", help="few samples and steps: shows that it runs, nothing more")
    return parser.parse_args(words)


def the_size(given: argparse.Namespace) -> Size:
    """How much is measured.

    Raises:
        BadInput: fewer than can be compared.
    """
    size = Size.quick() if given.quick else Size()
    names = ("samples", "pairs", "segments", "steps", "gamma", "guidance_scale")
    size = replace(size, **{name: getattr(given, name) for name in names if getattr(given, name) is not None})
    for name, low in (("samples", 3), ("pairs", 1), ("segments", 3), ("steps", 1)):
        if getattr(size, name) < low:
            raise BadInput(f"--{name} must be at least {low}, not {getattr(size, name)}.")
    return size


def evaluator_of(model: sfumato.Model, clip: str | None) -> Evaluator:
    """The networks that pictures are compared with."""
    own = None if model.folder is None else model.folder / "dual_encoder"
    return Evaluator.load(clip or (own if own is not None and own.is_dir() else None), device=model.network.device)


def measure(study: Study, out: Path) -> dict[str, Any]:
    """Every part in turn, each with its figure."""
    model = study.model
    numbers: dict[str, Any] = {"model": about_model(model), "environment": about_machine(model)}
    numbers |= {"size": asdict(study.size), "prompts": list(study.prompts)}
    say("local bases over time")
    numbers["local"] = kept(study, out, "local", local.VERSION, local.measure)
    local.draw(out / "local.png", numbers["local"])
    say("edits along directions of every kind")
    numbers["edits"] = kept(study, out, "edits", edits.VERSION, partial(edits.measure, sheet=out / "edits.png"))
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
    """Measure, draw and write."""
    size = the_size(given)
    model = sfumato.load(given.model, given.device)
    study = Study(model, tuple(given.prompts or people(model)), size, evaluator_of(model, given.clip))
    given.out.mkdir(parents=True, exist_ok=True)
    numbers = measure(study, given.out)
    found = claims.check(numbers)
    publish(given, claims.as_markdown(numbers, found), numbers | {"claims": as_json(found)}, FIGURES)


def main(words: Sequence[str] | None = None) -> int:
    """Returns an exit code."""
    given = arguments(words)
    return reported(__file__, lambda: work(given))


if __name__ == "__main__":
    sys.exit(main())
