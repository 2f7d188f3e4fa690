"""The comparison as pictures."""

from pathlib import Path

import numpy as np
from PIL import Image

from papers.paired.equal import on_front
from papers.paired.results import ADHERENCE, Results
from sfumato.bench.pairs import PairBenchmark
from sfumato.bench.settings import PIPELINES, UNCHANGED
from sfumato.images import contact_sheet, write_image
from sfumato.images.sheet import Pixels

WIDE = 9
"""Pictures side by side in the contact sheet: what a page shows without shrinking them."""

COLOURS = {"ours": "tab:blue", "theirs": "tab:red", "none": "tab:gray"}


def trade(path: Path, results: Results) -> None:
    """Adherence against error to the true picture: up and to the right is better."""
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
    axes.set_xlabel("cosine of the change of picture with the change of text (dual encoder)")
    axes.set_ylabel("PSNR to the true picture, dB")
    axes.set_title(f"{len(results.items)} edits; blue: sfumato, red: diffusers; a star: beaten by none in both")
    figure.savefig(path, dpi=120)


def edits(path: Path, results: Results, corpus: Path, count: int) -> None:
    """Source, true picture and the edit by each setting, in lines of `WIDE`; the kinds of edits in turn.

    Raises:
        BadInput: the corpus is not there, or not the one that was edited.
    """
    pairs = {item.name: item for item in PairBenchmark(corpus).items}
    shown = sorted(range(len(results.items)), key=lambda n: results.kinds[:n].count(results.kinds[n]))[:count]
    settings = [name for name, method in results.methods.items() if method != UNCHANGED]
    rows: list[list[Pixels]] = []
    labels: list[list[str]] = []
    for n in shown:
        item = pairs[results.items[n]]
        pictures = item.load()
        edited = [np.asarray(Image.open(results.pictures[name][n]).convert("RGB")) for name in settings]
        psnr = (f"{results.values[name]['target_psnr'][n]:.1f} dB" for name in settings)
        texts = [item.source_text, item.target_text, *(f"{a}\n{b}" for a, b in zip(settings, psnr, strict=True))]
        drawn = [pictures.source, pictures.target, *edited]
        rows += [drawn[first : first + WIDE] for first in range(0, len(drawn), WIDE)]
        labels += [texts[first : first + WIDE] for first in range(0, len(drawn), WIDE)]
    write_image(path, contact_sheet(rows, labels, scale=2, font_size=11))
