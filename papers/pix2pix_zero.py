"""The noise of the inversions of pix2pix-zero (Parmar et al., SIGGRAPH 2023, arXiv 2302.03027, section 3.1).

    sfumato data emoji --out data/emoji
    python papers/pix2pix_zero.py --page docs/papers/pix2pix_zero.md

The held-out images of `papers/held_out.py` are inverted with DDIM inversion, with the regularised inversion, and as in
the public code. x_T is compared with white N(0, 1) noise: distances of mean, variance and kurtosis, and the mean square
of the autocorrelation, of x_T with mean 0 and variance 1, over all shifts except 0. Reconstructions are compared with
the images.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import sfumato
from papers.held_out import EDITS, sources
from papers.page import insert, reported
from papers.sure import estimate
from sfumato.files import write_text
from sfumato.metrics import psnr

INVERSIONS: dict[str, dict[str, Any]] = {
    "DDIM": {"inversion": "ddim"},
    "regularised, pyramid times 2 (the default)": {"inversion": "regularised"},
    "`--compat official`": {"inversion": "regularised", "compat": "official"},
}
"""Options of pix2pix-zero by row of the table."""
COLUMNS = ("mean", "variance", "kurtosis", "autocorrelation", "reconstruction")


def distances(noise: Tensor) -> dict[str, list[float]]:
    """Distances of noise [b,c,h,w] to white N(0, 1) noise, one value per image; see the module docstring."""
    flat = noise.flatten(1).double()
    unit = (flat - flat.mean(dim=1, keepdim=True)) / flat.std(dim=1, keepdim=True, correction=0)
    power = torch.fft.fft2(unit.reshape(noise.shape)).abs().square() / noise.shape[-2:].numel()
    correlation = torch.fft.ifft2(power).real.flatten(2)[..., 1:]
    return {
        "mean": flat.mean(dim=1).abs().tolist(),
        "variance": (flat.var(dim=1) - 1).abs().tolist(),
        "kurtosis": (unit.pow(4).mean(dim=1) - 3).abs().tolist(),
        "autocorrelation": correlation.square().mean(dim=(1, 2)).tolist(),
    }


def measure(data: Path, steps: int, device: str | None) -> dict[str, dict[str, list[float]]]:
    """The values of `COLUMNS` for every image, by inversion; "reconstruction" is a PSNR in dB."""
    model = sfumato.load("emoji", device)
    every = zip(EDITS, sources(data, model.network.native_size[0]), strict=True)
    images_by_caption = {caption: image for (caption, _), image in every}  # two edits may have the same source
    captions, images = list(images_by_caption), list(images_by_caption.values())
    found: dict[str, dict[str, list[float]]] = {}
    for name, options in INVERSIONS.items():
        print(f"{name}: inverting {len(images)} images", file=sys.stderr)
        inverted = model.invert(images, captions, method="pix2pix-zero", steps=steps, **options)
        x = torch.cat([group.inversion.x[0] for group in inverted.groups])
        again = inverted.reconstruct().pixels
        found[name] = distances(x) | {"reconstruction": psnr(_batch(images), _batch(again)).tolist()}
    return found


def _batch(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def as_markdown(found: dict[str, dict[str, list[float]]]) -> str:
    """The table: means and standard errors over the images."""
    lines = [f"| inversion | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    for name, values in found.items():
        cells = []
        for column in COLUMNS:
            value = estimate(values[column])
            form = "{:.1f} ± {:.1f} dB" if column == "reconstruction" else "{:.3g} ± {:.1g}"
            cells.append(form.format(value.mean, value.error))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def work(given: argparse.Namespace) -> None:
    """Measure, write the numbers, and insert the table into the page."""
    found = measure(given.data, given.steps, given.device)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(given.out, json.dumps(found, indent=1) + "\n")
    print(fragment := as_markdown(found))
    if given.page is not None:
        insert(given.page, fragment)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script. Returns an exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="folder of the corpus")
    parser.add_argument("--steps", type=int, default=20, help="steps of every run (default 20)")
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--out", type=Path, default=Path("out/pix2pix_zero.json"), help="JSON file of all values")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the table into")
    return reported(__file__, parser.parse_args(words), work)


if __name__ == "__main__":
    sys.exit(main())
