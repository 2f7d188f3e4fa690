"""Claims about the objects of a prompt: Self-Guidance moves and resizes them; other methods make all of them appear."""

from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

from papers.claim import Claim
from papers.guided.several import METHODS
from papers.sure import clustered_difference, over_members, with_error

MOVE, RESIZE = 0.06, 0.15
"""Target median errors: of a displacement, as a fraction of the image; of a size, relative to the requested size."""
ELSEWHERE = 0.02
"""Largest mean change of pixels that belong to no object, as a fraction of the range of values."""


def check(numbers: Mapping[str, Any]) -> list[Claim]:
    """All claims."""
    return [
        *of_moves(numbers["moves"]),
        of_places(numbers["places"]),
        *of_several(numbers["several"]),
    ]


def table(numbers: Mapping[str, Any]) -> list[str]:
    """Markdown: displacements, sizes and objects found."""
    edits, several = numbers["moves"]["edits"], numbers["several"]
    lines = [
        f"Self-Guidance with the bundled model, {len(edits['still']['right'])} objects of 60 % of the canvas:",
        "",
        "| edit | right | factor of the side | difference of the mean colour | change elsewhere |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in edits.items():
        cells = [with_error(found[key]) for key in ("right", "side", "colour", "elsewhere")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Objects that the evaluator finds with the bundled model, {len(several['real'])} prompts:",
        "",
        "| images | both | at least one |",
        "| --- | ---: | ---: |",
    ]
    for name in ("real", *METHODS):
        both, one = (fmean(count >= least for count in several[name]) for least in (2, 1))
        lines.append(f"| {name} | {both:.0%} | {one:.0%} |")
    return lines


def of_moves(numbers: Mapping[str, Any]) -> list[Claim]:
    """Claims about displacement, size, appearance and what is elsewhere."""
    edits, right, names = numbers["edits"], numbers["right"], numbers["names"]
    moved = [abs(a - right) + abs(b) for a, b in zip(edits["move"]["right"], edits["move"]["down"], strict=True)]
    further = clustered_difference(edits["move"]["right"], edits["still"]["right"], names)
    claims = [
        Claim(
            f"Self-Guidance moves: requested {right:g} of the width, median error at most {MOVE:g}",
            f"median error {median(moved):.3f}, moved {with_error(edits['move']['right'])} (more than without: "
            f"{further}), n = {len(moved)}",
            median(moved) <= MOVE,
        )
    ]
    sides = {factor: edits[f"resize {factor:g}"]["side"] for factor in numbers["factors"]}
    off = {factor: median(abs(side / factor - 1) for side in found) for factor, found in sides.items()}
    text = "; ".join(
        f"{factor:g}: median error {off[factor]:.0%}, factor {with_error(sides[factor])}" for factor in sides
    )
    claims.append(
        Claim(
            f"Self-Guidance resizes, up and down: median errors of the side at most {RESIZE:.0%}",
            f"requested {text}; without guidance {with_error(edits['still']['side'])}",
            max(off.values()) <= RESIZE,
        )
    )
    elsewhere = clustered_difference(edits["move"]["elsewhere"], edits["still"]["elsewhere"], names)
    shrunk, alone = edits["resize 0.7"]["colour"], edits["resize 0.7, without appearance"]["colour"]
    style = clustered_difference(alone, shrunk, names)
    return [
        *claims,
        Claim(
            f"what is elsewhere keeps its appearance: it changes by at most {ELSEWHERE:.0%} of the range",
            f"mean change {with_error(edits['move']['elsewhere'])} of the range, without guidance "
            f"{with_error(edits['still']['elsewhere'])} ({elsewhere})",
            fmean(edits["move"]["elsewhere"]) <= ELSEWHERE,
        ),
        Claim(
            "the appearance term keeps the style while the shape changes",
            f"difference of the mean colour {with_error(shrunk)}, without the term {with_error(alone)} ({style})",
            style.positive,
        ),
    ]


def of_places(numbers: Mapping[str, Any]) -> Claim:
    """Claim that generated objects appear at the requested place."""
    away = {
        name: [abs(x - wanted) for x, wanted in zip(numbers[name], numbers["requested"], strict=True)]
        for name in ("plain", "placed")
    }
    nearer = clustered_difference(away["plain"], away["placed"], numbers["names"])
    return Claim(
        f"Self-Guidance places generated objects: median distance at most {MOVE:g} of the width",
        f"median distance {median(away['placed']):.3f}, without guidance {median(away['plain']):.3f} (n = "
        f"{len(away['placed'])}); mean {with_error(away['placed'])} and {with_error(away['plain'])} ({nearer})",
        median(away["placed"]) <= MOVE,
    )


def of_several(numbers: Mapping[str, Any]) -> list[Claim]:
    """Claims that a method generates both objects in more images than plain sampling."""
    both = {name: [count == 2 for count in numbers[name]] for name in METHODS}
    plain = both.pop("plain sampling")
    text = ", ".join(f"{name} {fmean(values):.0%}" for name, values in both.items())
    found = []
    for name, values in both.items():
        more = over_members([a - b for a, b in zip(values, plain, strict=True)], numbers["pairs"])
        found.append(
            Claim(
                f"{name}: more images with both objects than plain sampling",
                f"both found: {text}, plain sampling {fmean(plain):.0%} of {len(plain)} prompts (difference {more})",
                more.positive,
            )
        )
    return found
