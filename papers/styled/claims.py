"""The claims of PARASOL with the measurement and the verdict.

A comparison holds if the difference, paired by cell and clustered by emoji, is significant in the direction of the
claim: cells of one emoji in several styles are one group (`papers.sure.clustered`).
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from papers.claim import Claim, as_sentence, claims_table
from papers.styled import ablations, references
from papers.styled.cells import PARASOL, WAYS
from papers.styled.study import METRICS
from papers.sure import Estimate, clustered, clustered_difference

COLOURED = f"{PARASOL}, colour step"
COMPARED = ("unchanged", PARASOL)
"""Methods whose distance to the style image is compared with that of the true drawing."""
DIVERSE = 0.25
"""Smallest LPIPS between images of one content, relative to that between different contents in the same style."""


def check(numbers: dict[str, Any]) -> list[Claim]:
    """All claims, checked against the numbers."""
    return [
        *_of_encoders(numbers["encoders"]),
        *_of_cells(numbers["cells"]),
        *_of_control(numbers["control"]),
        _from_noise(numbers["from noise"]),
        *_of_uses(numbers["uses"]),
        *ablations.claims(numbers["ablations"]),
    ]


def as_markdown(numbers: dict[str, Any], claims: Sequence[Claim]) -> str:
    """Markdown: the claims, and the comparison with the ground-truth drawing."""
    cells = numbers["cells"]
    whole = {name: each for name, each in cells.items() if not name.startswith("some: ")}
    some = {name.removeprefix("some: "): each for name, each in cells.items() if name.startswith("some: ")}
    lines = [
        *claims_table(claims),
        "",
        "A comparison holds if the difference, paired by cell, is significant at 5 %. ± is one standard error,",
        "clustered by emoji: cells of one emoji in several styles are not independent.",
    ]
    tables = (
        ("", whole),
        ("Reference images for the same ", numbers["references"]),
        ("", some),
        ("Ablations of the training: ", numbers["ablations"]),
    )
    for about, table in tables:
        if not table:
            continue
        first = next(iter(table.values()))
        kinds = f" ({sum(first['trained'])} of kinds of emoji in its training data)" if "trained" in first else ""
        count = f"{about}{len(first['style_mse'])} never-seen cells (content, style){kinds}"
        lines += ["", f"{count}; `target_` is the distance to the true drawing:", ""]
        lines += [f"| | {' | '.join(METRICS)} |", f"| --- |{' ---: |' * len(METRICS)}"]
        for name, found in table.items():
            means = [clustered(found[metric], found["emoji"]) for metric in METRICS]
            cell = [f"{each.mean:.4f} ± {each.error:.4f}" for each in means]
            lines.append(f"| {name} | {' | '.join(cell)} |")
        if table is numbers["references"]:
            lines += ["", over_true_drawing(cells, table[references.TRUE])]
    return "\n".join([*lines, "", as_sentence(numbers), ""])


def over_true_drawing(cells: Mapping[str, Mapping[str, list[Any]]], truth: Mapping[str, list[Any]]) -> str:
    """A sentence on how much farther than the true drawing PARASOL and the content image are by `sifid`."""
    found = {name: clustered_difference(cells[name]["sifid"], truth["sifid"], truth["emoji"]) for name in COMPARED}
    return f"`sifid` minus that of the true drawing: {', '.join(f'{name} {each}' for name, each in found.items())}."


def _of_encoders(numbers: Mapping[str, Any]) -> list[Claim]:
    style, content = numbers["probe: style from style"], numbers["probe: style from content"]
    share, first = numbers["probe: group, largest class"], numbers["right style first"]
    group = numbers["probe: group from style"], numbers["probe: group from content"]
    return [
        Claim(
            "A finds images of the same style whatever they show",
            f"the nearest image with another content has the right style for {first:.0%} (test)",
            first > 0.5,
        ),
        Claim(
            "encoders of one modality each separate style and content",
            f"a linear probe reads the style from A {style:.0%}, from C {content:.0%}; the group from C "
            f"{group[1]:.0%}, from A {group[0]:.0%}, largest class {share:.0%}",
            style > content and group[1] > group[0],
        ),
    ]


def _of_cells(numbers: Mapping[str, Mapping[str, list[Any]]]) -> list[Claim]:
    def difference(one: str, other: str, metric: str) -> Estimate:
        return clustered_difference(numbers[one][metric], numbers[other][metric], numbers[PARASOL]["emoji"])

    others = [name for name in numbers if name in WAYS and name != "unchanged"]
    over = {m: [difference(name, PARASOL, m) for name in others] for m in METRICS}
    under = {m: [difference(PARASOL, name, m) for name in others] for m in METRICS}
    best = [m for m in ("target_mse", "target_lpips") if all(each.positive for each in over[m])]
    worst = [m for m in METRICS if m != "lpips" and all(each.positive for each in under[m])]
    kept = [m for m in ("target_mse", "target_lpips") if difference(PARASOL, "unchanged", m).positive]
    closer = difference("unchanged", PARASOL, "style_mse")
    coloured = difference(PARASOL, COLOURED, "chamfer")
    return [
        Claim(
            "of the methods, PARASOL has the smallest distance to the true drawing by at least one metric, and the "
            "largest by none",
            f"nearest by {', '.join(best) or 'none'}; worst by {', '.join(worst) or 'none'}; the unchanged image is "
            f"nearer by {', '.join(kept) or 'none'}",
            bool(best) and not worst,
        ),
        Claim("it brings the style nearer to that of the style image", f"style_mse falls by {closer}", closer.positive),
        Claim("the colour step brings the colours nearer", f"chamfer falls by {coloured}", coloured.positive),
    ]


def _of_control(numbers: Mapping[str, Any]) -> list[Claim]:
    rising = "rank correlation"
    wanted = {
        "the style distance falls with g_s": ("style_scale", "style_mse"),
        "the content distance falls with g_y": ("content_scale", "content_mse"),
        "the content distance falls with lambda": ("lam", "lpips"),
    }
    found = []
    for text, (parameter, metric) in wanted.items():
        value = clustered(numbers["correlations"][parameter][metric], numbers["emoji"])
        found.append(Claim(text, f"{rising} of {parameter} and {metric}: {value}", value.negative))
    return found


def _from_noise(numbers: Mapping[str, Any]) -> Claim:
    value = clustered(numbers["correlations"]["content_mse"], numbers["emoji"])
    return Claim(
        "the content distance falls with g_y, in images from noise",
        f"rank correlation of content_scale and content_mse: {value}",
        value.negative,
    )


def _of_uses(numbers: Mapping[str, Any]) -> list[Claim]:
    along, text = (clustered(numbers[name], numbers["emoji"]) for name in ("interpolation", "text"))
    diverse = numbers["diversity"]
    own = clustered_difference(diverse["own content"], diverse["other content"], diverse["emoji"])
    between = clustered(diverse["lpips"], diverse["emoji"])
    share = fmean(diverse["lpips"]) / fmean(diverse["lpips between contents"])
    return [
        Claim(
            "interpolated descriptors interpolate the style",
            f"rank correlation with the weight: {along}",
            along.positive,
        ),
        Claim("a text replaces the style image", f"similarity to the style image rises by {text}", text.positive),
        Claim(
            "images sampled from noise under one content descriptor differ from each other and show this content",
            f"LPIPS between them {between}, {share:.0%} of that to another content in the same style; similarity to "
            f"their content minus to others {own}",
            own.positive and share >= DIVERSE,
        ),
    ]
