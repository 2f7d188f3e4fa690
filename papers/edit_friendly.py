"""Measurements for "An Edit Friendly DDPM Noise Space" (Huberman-Spiegelglas et al., CVPR 2024, arXiv 2304.06140).

    python papers/edit_friendly.py --model emoji --out out/edit_friendly

writes one figure for each part (see FIGURES), numbers.json and fragment.md. `--page FILE` also inserts the claims into
a page between its markers and copies the figures next to it, so that no number in the documentation is copied manually.
Requires the extra `papers`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sfumato
from papers.claim import about_machine, about_model, as_json, say
from papers.ddpm_noise_space import (
    claims,
    comparison,
    gaussian,
    noise_maps,
    recolouring,
    reconstruction,
    shifting,
    text_edits,
)
from papers.page import publish, reported
from sfumato.errors import BadInput
from sfumato.examples import examples

FIGURES = tuple(
    f"{name}.png" for name in ("noise_maps", "gaussian", "reconstruction", "edits", "shifting", "colour", "comparison")
)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name, folder, hub id or .safetensors file")
    parser.add_argument("--out", type=Path, default=Path("out/edit_friendly"), help="folder of the figures and numbers")
    parser.add_argument("--images", nargs="+", help="real images; the package's examples by default")
    parser.add_argument("--from", nargs="+", dest="sources", help="prompt of each image")
    parser.add_argument("--to", nargs="+", dest="targets", help="prompt describing each edited image")
    parser.add_argument("--steps", type=int, default=100, help="steps of the noise statistics")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each edit")
    parser.add_argument(
        "--source-guidance",
        dest="source_guidance_scale",
        type=float,
        help="guidance scale of the source prompt; the model's own by default",
    )
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the claims into")
    parser.add_argument("--quick", action="store_true", help="few steps and one image: a smoke test")
    return parser.parse_args(words)


def chosen_images(given: argparse.Namespace) -> tuple[list[str], list[str], list[str]]:
    """Images with their source and target prompts.

    Raises:
        BadInput: not one prompt of each kind per image.
    """
    if given.images is None:
        if given.sources or given.targets:
            raise BadInput("--from and --to are prompts of --images: give the images, or leave the prompts out.")
        shipped = examples()
        chosen = [str(e.path) for e in shipped], [e.source for e in shipped], [e.target for e in shipped]
    else:
        chosen = given.images, given.sources or [], given.targets or []
    if len({len(part) for part in chosen}) != 1:
        raise BadInput(f"Give --from and --to with one prompt each for every one of the {len(chosen[0])} images.")
    return (chosen[0][:1], chosen[1][:1], chosen[2][:1]) if given.quick else chosen


def measure(model: sfumato.Model, given: argparse.Namespace) -> dict[str, Any]:
    """Measure every part and draw its figure. Returns all numbers as JSON values."""
    images, sources, targets = chosen_images(given)
    guidance_scale = given.source_guidance_scale
    if guidance_scale is None:
        guidance_scale = model.network.settings.get("edit", {}).get("source_guidance_scale", 3.5)
    steps, lengths, points = (10, (5,), 500) if given.quick else (given.steps, (20, 50, 100), 4000)

    say("noise maps of real images")
    numbers: dict[str, Any] = {"model": about_model(model), "environment": about_machine(model)}
    numbers["noise_maps"] = noise_maps.measure(
        model, images, sources, steps=steps, source_guidance_scale=guidance_scale
    )
    noise_maps.draw(given.out / "noise_maps.png", numbers["noise_maps"])

    say("two-dimensional Gaussian")
    numbers["gaussian"] = gaussian.measure(points, 100)
    gaussian.draw(given.out / "gaussian.png", numbers["gaussian"], steps=25)

    numbers["reconstruction"] = reconstruction.measure(
        model, images[0], sources[0], steps=lengths, source_guidance_scale=guidance_scale, callback=say
    )
    reconstruction.draw(given.out / "reconstruction.png", numbers["reconstruction"])

    quick = {"steps": steps} if given.quick else {}
    options = dict(quick)
    if given.source_guidance_scale is not None:
        options["source_guidance_scale"] = guidance_scale
    numbers["edits"], rows = text_edits.measure(
        model, images, sources, targets, seeds=given.seeds, callback=say, **options
    )
    text_edits.draw(given.out / "edits.png", numbers["edits"], rows)
    numbers["shifting"], rows = shifting.measure(model, images, sources, callback=say, **options)
    shifting.draw(given.out / "shifting.png", numbers["shifting"], rows)
    numbers["colour"], rows = recolouring.measure(model, images, sources, callback=say, **quick)
    recolouring.draw(given.out / "colour.png", numbers["colour"], rows)
    numbers["comparison"], rows = comparison.measure(model, images, sources, targets, callback=say, **options)
    comparison.draw(given.out / "comparison.png", numbers["comparison"], rows)
    return numbers


def work(given: argparse.Namespace) -> None:
    """Measure, draw and write the results."""
    chosen_images(given)
    given.out.mkdir(parents=True, exist_ok=True)
    numbers = measure(sfumato.load(given.model, given.device), given)
    found = claims.check(numbers)
    publish(given, claims.as_markdown(numbers, found), numbers | {"claims": as_json(found)}, FIGURES)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script. Returns an exit code."""
    given = arguments(words)
    return reported(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
