"""Hue and texture after the method `colour`, with its defaults and as in the paper, on images with a plain colour.

    OMP_NUM_THREADS=1 python -m benchmarks.recolouring --data data/emoji --page docs/editing.md

The images belong to the split `test`, at most one per name. A colour is plain if at least 70 % of the subject are
within a distance of 0.1 (Oklab) of its median, whose chroma is above 0.1. The paper's variant of eq. 7 is an image of
one colour as M, B = 1 everywhere and s = 0.04. Measured on the pixels with the main colour of the source: hue error and
distance in Oklab of their median to the requested colour, and the correlation of the lightness differences of
neighbouring pixels with those of the source ("texture"). "Elsewhere" is the share of the change in pixels without the
main colour.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import sfumato
from benchmarks.report import measured, publish
from papers.ddpm_noise_space.recolouring import published
from sfumato.api import Model
from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.images.oklab import to_oklab
from sfumato.images.recolour import recolour
from sfumato.methods.colour import rgb

COLOURS = ("#3388ff", "green", "red", "gold", "purple")
DISTANCE, CHROMA, SHARE = 0.1, 0.1, 0.7
BATCH = 8


def plain(images: CaptionedImages, count: int) -> list[int]:
    """Rows of the first `count` images with a plain colour in a fixed random order, at most one per name."""
    names: set[str] = set()
    rows = []
    for row in np.random.default_rng(0).permutation(len(images.captions)).tolist():
        name = images.captions[row].rpartition(", ")[0]
        lab = to_oklab(torch.from_numpy(images.images[row]).float() / 127.5 - 1).flatten(1)
        subject = lab[:, (lab - lab.new_tensor([1.0, 0, 0])[:, None]).norm(dim=0) > 0.05]
        if name in names or subject.shape[1] == 0:
            continue
        median = subject.median(dim=1).values
        near = (subject - median[:, None]).norm(dim=0) <= DISTANCE
        if median[1:].norm() > CHROMA and near.double().mean() >= SHARE:
            names.add(name)
            rows.append(row)
    if len(rows) < count:
        raise BadInput(f"The split test has {len(rows)} images with a plain colour, not {count}: lower --images.")
    return rows[:count]


def scores(source: Tensor, edited: Tensor, colour: str) -> dict[str, float]:
    """Scores of one edit of images [3,h,w] in [-1, 1]; see the module docstring."""
    wanted = torch.tensor(rgb(colour), dtype=torch.float32) / 127.5 - 1
    inside = recolour(source, wanted).share > 0.5
    lab, before = to_oklab(edited.clamp(-1, 1)), to_oklab(source)
    median, target = lab[:, inside].median(dim=1).values, to_oklab(wanted[:, None])[:, 0]
    hues = torch.rad2deg(torch.atan2(*torch.stack([median, target], dim=1)[1:].flip(0)))
    change = (edited - source).abs().mean(dim=0)
    return {
        "hue": float(((hues[0] - hues[1] + 180) % 360 - 180).abs()),
        "distance": float((median - target).norm()),
        "elsewhere": float(change[~inside].sum() / change.sum()),
        "texture": _correlation(_steps(lab[0], inside), _steps(before[0], inside)),
    }


def _steps(lightness: Tensor, inside: Tensor) -> Tensor:
    """Differences of the lightness of horizontal and vertical neighbours inside the region."""
    across = (lightness[:, 1:] - lightness[:, :-1])[inside[:, 1:] & inside[:, :-1]]
    down = (lightness[1:] - lightness[:-1])[inside[1:] & inside[:-1]]
    return torch.cat([across, down])


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 127.5 - 1


def _correlation(a: Tensor, b: Tensor) -> float:
    """Correlation of two vectors; 0 if one of them is constant."""
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1].nan_to_num(0.0))


def edits(model: Model, pixels: Sequence[Any], captions: Sequence[str], steps: int) -> dict[tuple[str, str], list[Any]]:
    """Edited images [h,w,3] by colour and variant."""
    inverted = model.invert(pixels, captions, method="colour", steps=steps)
    found: dict[tuple[str, str], list[Any]] = {}
    for colour in COLOURS:
        found[colour, "default"] = inverted.edit("", colour=colour).pixels
        shift = published(model, pixels[0], colour)
        found[colour, "paper"] = inverted.edit(captions, methods=[], shifts=[shift]).pixels
    return found


def work(given: argparse.Namespace) -> None:
    """Edit, measure and write the table."""
    model = sfumato.load(given.model, given.device)
    images = CaptionedImages.open(given.data, model.network.native_size[0], split="test")
    rows = plain(images, given.images)
    measured_edits: dict[str, list[dict[str, float]]] = {}
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        pixels = [images.images[row].transpose(1, 2, 0) for row in some]
        found = edits(model, pixels, [images.captions[row] for row in some], given.steps)
        for (colour, variant), edited in found.items():
            measured_edits.setdefault(f"{colour} {variant}", []).extend(
                scores(_tensor(one), _tensor(other), colour) for one, other in zip(pixels, edited, strict=True)
            )
        print(f"{first + len(some)} of {len(rows)} images", file=sys.stderr)
    publish(given, as_markdown(measured_edits), {"images": [images.captions[row] for row in rows], **measured_edits})


def as_markdown(found: dict[str, list[dict[str, float]]]) -> str:
    """One row per colour; numbers in parentheses are those of the paper's variant."""
    lines = [
        "| `--colour` | hue error, mean | hue error, largest | distance | elsewhere | texture |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for colour in COLOURS:
        cells = []
        for name, over, form in (
            ("hue", np.mean, "{:.1f}"),
            ("hue", np.max, "{:.0f}"),
            ("distance", np.mean, "{:.3f}"),
            ("elsewhere", lambda shares: 100 * np.mean(shares), "{:.1f} %"),
            ("texture", np.mean, "{:.2f}"),
        ):
            ours, theirs = (
                form.format(over([each[name] for each in found[f"{colour} {variant}"]]))
                for variant in ("default", "paper")
            )
            cells.append(f"{ours} ({theirs})")
        lines.append(f"| `{colour}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns an exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name, folder, hub id or .safetensors file")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="folder of the corpus")
    parser.add_argument("--images", type=int, default=30, help="number of images (default 30)")
    parser.add_argument("--steps", type=int, default=50, help="steps of every run (default 50)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--threads", type=int, help="threads of torch; default torch's own choice")
    parser.add_argument("--out", type=Path, help="JSON file for all results")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the table into")
    return measured(__file__, parser.parse_args(words), work)


if __name__ == "__main__":
    sys.exit(main())
