"""Figures of the comparison."""

from pathlib import Path

import numpy as np
from PIL import Image

from papers.paired.equal import on_front
from papers.paired.results import ADHERENCE, Results
from sfumato.bench.pairs import PairBenchmark
from sfumato.bench.settings import PIPELINES, UNCHANGED
from sfumato.images import contact_sheet
from sfumato.images.sheet import Pixels

WIDE = 9
"""Number of images per row of the contact sheet, which fit on a page at full size."""

COLOURS = {"ours": "tab:blue", "theirs": "tab:red", "none": "tab:gray"}


def trade(path: Path, results: Results) -> None:
    """Plot adherence against PSNR to the ground truth; higher is better on both axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots()
    front = on_front(results)
    for number, (setting, method) in enumerate(results.methods.items(), 1):
        whose = "theirs" if method in PIPELINES else "none" if method == UNCHANGED else "ours"
        point = results.mean(setting, ADHERENCE), results.mean(setting, "target_psnr")
        marker = "*" if setting in front else "o"
        axes.scatter(*point, color=COLOURS[whose], marker=marker, s=60, label=f"{number}  {setting}")
        axes.annotate(str(number), point, xytext=(5, 3), textcoords="offset points", fontsize=7)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    axes.set_xlabel("cosine of the change of the image and the change of the text (dual encoder)")
    axes.set_ylabel("PSNR to the ground truth, dB")
    axes.set_title(f"{len(results.items)} edits; blue: sfumato, red: diffusers; star: Pareto front")
    figure.savefig(path, dpi=120)


def edits(path: Path, results: Results, corpus: Path, count: int) -> None:
    """Write a contact sheet with source, ground truth and the edit by each setting, in rows of `WIDE` images.

    The shown edits alternate between the kinds of edits. The file has a palette of 256 colours.

    Raises:
        BadInput: the corpus does not exist, or is not the one that was edited.
    """
    shown = sorted(range(len(results.items)), key=lambda n: results.kinds[:n].count(results.kinds[n]))[:count]
    settings = [name for name, method in results.methods.items() if method != UNCHANGED]
    with Image.open(next(iter(results.image_files.values()))[shown[0]]) as first:
        size = first.width
    pairs = {item.name: item for item in PairBenchmark(corpus, size).items}
    rows: list[list[Pixels]] = []
    labels: list[list[str]] = []
    for n in shown:
        item = pairs[results.items[n]]
        images = item.load()
        edited = [np.asarray(Image.open(results.image_files[name][n]).convert("RGB")) for name in settings]
        psnr = (f"{results.values[name]['target_psnr'][n]:.1f} dB" for name in settings)
        texts = [item.source_text, item.target_text, *(f"{a}\n{b}" for a, b in zip(settings, psnr, strict=True))]
        drawn = [images.source, images.target, *edited]
        rows += [drawn[first : first + WIDE] for first in range(0, len(drawn), WIDE)]
        labels += [texts[first : first + WIDE] for first in range(0, len(drawn), WIDE)]
    sheet = Image.fromarray(contact_sheet(rows, labels, scale=max(1, 128 // size), font_size=11))
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)  # a quarter of the bytes
