"""Pixel measurements for guidance methods: Asyrp, DiffuseIT, Self-Guidance, pix2pix-zero and several objects.

    sfumato data emoji --out data/emoji
    sfumato train delta-h recipes/emoji-delta-h.toml --out runs/emoji-delta-h
    python papers/guidance.py --delta runs/emoji-delta-h/export/delta_h.safetensors --out out/guidance

arXiv 2210.10960, 2209.15264, 2306.00986, 2302.03027 and 2301.13826. Writes composed.png, numbers.json and fragment.md.
The results of each part are stored, so that the same command resumes after an interruption. `--page FILE` inserts the
claims into a page between its markers, and copies the figure next to it. Objects of the corpus are drawings on white,
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
from papers.guided import bottleneck, claims, composed, determinism, keys, moves, several, swaps
from papers.guided.study import Numbers, Size, Study, kept
from papers.page import publish, reported
from papers.sizes import add_sizes, chosen_size
from sfumato.metrics import Evaluator

FIGURES = ("composed.png",)
PARTS: dict[str, tuple[int, Callable[[Study], Numbers], tuple[str, ...]]] = {
    "determinism": (determinism.VERSION, determinism.measure, ("steps", "generated")),
    "bottleneck": (bottleneck.VERSION, bottleneck.measure, ("faces",)),
    "keys": (keys.VERSION, keys.measure, ("pairs", "translated")),
    "swaps": (swaps.VERSION, swaps.measure, ("steps", "swapped")),
    "moves": (moves.VERSION, moves.measure, ("steps", "moved")),
    "several": (several.VERSION, several.measure, ("steps", "prompts")),
}
"""Version, measurement and sizes of every part."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name, folder or hub id")
    parser.add_argument("--delta", type=Path, required=True, help="file of a delta-h of the model")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="folder of the corpus")
    parser.add_argument("--out", type=Path, default=Path("out/guidance"), help="folder of the numbers")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the claims into")
    add_sizes(parser, Size())
    return parser.parse_args(words)


def measure(study: Study, out: Path) -> dict[str, Any]:
    """Measure every part. Returns all numbers as JSON values."""
    model = study.model
    numbers: dict[str, Any] = {"model": about_model(model), "environment": about_machine(model)}
    numbers["size"] = asdict(study.size)
    for name, (version, work, sizes) in PARTS.items():
        say(name)
        numbers[name] = kept(study, out, name, version, work, sizes)
    composed.draw(study, out / FIGURES[0])
    return numbers


def work(given: argparse.Namespace) -> None:
    """Measure and write the results."""
    size = chosen_size(given, Size(), Size.quick())
    study = Study(sfumato.load(given.model), given.delta, given.data, size, Evaluator.load())
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
