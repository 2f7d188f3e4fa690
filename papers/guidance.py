"""Pixel measurements for guidance methods: Asyrp, DiffuseIT, Self-Guidance, pix2pix-zero and several objects.

    sfumato data emoji --out data/emoji
    for NAME in smile tone gender colour; do
        sfumato train delta-h recipes/emoji-delta-h-$NAME.toml --out runs/emoji-delta-h-$NAME
    done
    python papers/guidance.py --out out/guidance

arXiv 2210.10960, 2209.15264, 2306.00986, 2302.03027 and 2301.13826. Writes composed.png, numbers.json and fragment.md.
The results of each part are stored, so that the same command resumes after an interruption. `--page FILE` inserts the
claims into a page between its markers, and copies the figures next to it. Objects of the corpus are drawings on white,
so their masks are exact.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sfumato
from papers.claim import about_machine, about_model, as_json, say
from papers.guided import (
    attributes,
    bottleneck,
    claims,
    composed,
    determinism,
    keys,
    moves,
    objects,
    places,
    several,
    swaps,
)
from papers.guided.study import Numbers, Size, Study, kept
from papers.page import publish, reported
from papers.sizes import add_sizes, chosen_size
from sfumato.metrics import Evaluator

FIGURES = ("composed.png", "objects.png")
PARTS: dict[str, tuple[int, Callable[[Study], Numbers], tuple[str, ...]]] = {
    "determinism": (determinism.VERSION, determinism.measure, ("steps", "generated")),
    "bottleneck": (bottleneck.VERSION, bottleneck.measure, ("faces",)),
    "attributes": (attributes.VERSION, attributes.measure, ("attributes",)),
    "keys": (keys.VERSION, keys.measure, ("pairs", "translated")),
    "swaps": (swaps.VERSION, swaps.measure, ("steps", "swapped")),
    "moves": (moves.VERSION, moves.measure, ("steps", "moved")),
    "places": (places.VERSION, places.measure, ("moved",)),
    "several": (several.VERSION, several.measure, ("steps", "prompts")),
}
"""Version, measurement and sizes of every part."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name, folder or hub id")
    for name in attributes.ATTRIBUTES:
        default = Path(f"runs/emoji-delta-h-{name}/export/delta_h.safetensors")
        parser.add_argument(f"--{name}", type=Path, default=default, help=f"file of a delta-h of the model for {name}")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="folder of the corpus")
    parser.add_argument("--out", type=Path, default=Path("out/guidance"), help="folder of the numbers")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the claims into")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="measure only these parts, without a page")
    add_sizes(parser, Size())
    return parser.parse_args(words)


def measure(study: Study, out: Path, names: Sequence[str]) -> dict[str, Any]:
    """Measure the named parts. Returns all numbers as JSON values."""
    numbers: dict[str, Any] = {}
    for name in names:
        say(name)
        version, part, sizes = PARTS[name]
        numbers[name] = kept(study, out / "parts", name, version, part, sizes)
    return numbers


def work(given: argparse.Namespace) -> None:
    """Measure and write the results."""
    size = chosen_size(given, Size(), Size.quick())
    deltas = {name: getattr(given, name) for name in attributes.ATTRIBUTES}
    study = Study(sfumato.load(given.model), deltas, given.data, size, Evaluator.load())
    given.out.mkdir(parents=True, exist_ok=True)
    names = given.parts or list(PARTS)
    model = study.model
    numbers = {"model": about_model(model), "environment": about_machine(model), "size": asdict(size)}
    numbers |= measure(study, given.out, names)
    if given.parts:
        return
    composed.draw(study, given.out / FIGURES[0])
    objects.draw(study, given.out / FIGURES[1])
    found = claims.check(numbers)
    publish(given, claims.as_markdown(numbers, found), numbers | {"claims": as_json(found)}, FIGURES)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script. Returns an exit code."""
    given = arguments(words)
    return reported(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
