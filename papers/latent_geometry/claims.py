"""The claims of the paper, each with what was measured and whether it holds."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from papers.claim import Claim, as_sentence, claims_table
from papers.latent_geometry.local import LEADING
from papers.latent_geometry.walks import COLOURS

ENDS = 0.1
"""Share of the segments at either end of a path that "the ends" means."""

CLEAR = 0.05
"""Share by which one number must exceed another to be called larger: less is no difference."""


def judge(numbers: dict[str, Any]) -> list[Claim]:
    """All claims that the numbers speak about."""
    parts: tuple[tuple[str, Callable[[Any], list[Claim]]], ...] = (
        ("edits", _of_edits),
        ("local", _of_local),
        ("timing", _of_timing),
        ("change", _of_change),
        ("paths", _of_paths),
        ("distortion", _of_distortion),
        ("curvature", _of_curvature),
    )
    return [claim for part, judged in parts for claim in judged(numbers[part])]


def as_markdown(numbers: dict[str, Any], claims: Sequence[Claim]) -> str:
    """The claims, a table of the kinds of directions and one of the paths."""
    edits, paths = numbers["edits"], numbers["paths"]
    names = list(next(iter(edits["kinds"].values())))
    lines = [
        *claims_table(claims),
        "",
        f"Edits at t = T of {edits['samples']} generated pictures, both signs, length {edits['gamma']:g}; cosines and",
        "distances of the dual encoder's features.",
        "",
        f"| directions | {' | '.join(names)} |",
        "| --- |" + " ---: |" * len(names),
    ]
    for kind, found in edits["kinds"].items():
        lines.append(f"| {kind} | {' | '.join(f'{found[name]:.3f}' for name in names)} |")
    lines += [
        "",
        f"Paths at t = T over {paths['pairs']} pairs; mean total length and its deviation between pairs (geodesics and",
        "pictures are of the first pairs only).",
        "",
        "| path | semantic | in the bottleneck | in the latent | perceptual |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind in COLOURS:
        found = paths["kinds"][kind]
        cells = [
            f"{found[name]['mean']:.3g} ± {found[name]['deviation']:.2g}" if name in found else "-"
            for name in ("semantic", "bottleneck", "latent", "perceptual")
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", as_sentence(numbers), ""])


def _of_edits(numbers: dict[str, Any]) -> list[Claim]:
    kinds = numbers["kinds"]
    pullback, random, pca, shared = (kinds[name] for name in ("pullback", "random", "pca", "global"))
    claims = [
        Claim(
            "a direction changes a picture coherently: what - gamma undoes, + gamma does",
            f"cosine {pullback['coherence']:+.2f}, random directions {random['coherence']:+.2f}",
            pullback["coherence"] > max(0.0, random["coherence"]),
        ),
        Claim(
            "a global direction means the same in every picture",
            f"cosine between the changes of two pictures {shared['agreement']:+.2f}; the pictures' own directions of "
            f"the same rank {pullback['agreement']:+.2f}, random ones {random['agreement']:+.2f}",
            shared["agreement"] > max(pullback["agreement"], random["agreement"]),
        ),
        Claim(
            "random directions damage the picture more",
            f"distance to the nearest pictures grows by {random['damage']:.3f}; pullback {pullback['damage']:.3f}",
            random["damage"] > pullback["damage"],
        ),
    ]
    if "concentration" in pullback:
        attributes = len(numbers["axes"])
        claims += [
            Claim(
                "a direction carries one attribute: its effect falls on it alone",
                f"{pullback['concentration']:.0%} on the strongest of {attributes} (equal shares: "
                f"{1 / attributes:.0%}, random directions: {random['concentration']:.0%})",
                _larger(pullback["concentration"], random["concentration"]),
            ),
            Claim(
                "principal components of h entangle more",
                f"{pca['concentration']:.0%} on the strongest attribute, pullback {pullback['concentration']:.0%}; "
                f"damage {pca['damage']:.3f} against {pullback['damage']:.3f}",
                _larger(pullback["concentration"], pca["concentration"]),
            ),
        ]
    return claims


def _of_local(numbers: dict[str, Any]) -> list[Claim]:
    times = sorted(numbers["times"], key=lambda each: -each["time"])
    first, last = times[0], times[-1]

    def over_time(name: str, form: str) -> str:
        return ", ".join(f"{each[name]:{form}} at {each['time']:g} T" for each in times)

    shared = [fmean(each["overlap"][:LEADING]) for each in times]
    chance = fmean(numbers["chance"][:LEADING])
    return [
        Claim(
            "early directions are of lower frequency than late ones",
            f"share of the power in low frequencies {over_time('low_share', '.0%')}",
            _larger(first["low_share"], last["low_share"]),
        ),
        Claim(
            "the spectrum of singular values becomes flatter as t goes to 0",
            f"effective dimension {over_time('effective_dimension', '.1f')}",
            _larger(last["effective_dimension"], first["effective_dimension"]),
        ),
        Claim(
            "directions of different pictures overlap at t = T",
            f"mean |cos| of the first {LEADING}, matched: {shared[0]:.2f}; random spaces {chance:.2f}",
            shared[0] > 1.5 * chance,
        ),
        Claim(
            "they overlap less at small t",
            ", ".join(f"{value:.2f} at {each['time']:g} T" for value, each in zip(shared, times, strict=True)),
            _larger(shared[0], shared[-1]),
        ),
    ]


def _of_timing(numbers: dict[str, Any]) -> list[Claim]:
    return [_coarser("edits at T change what is coarse, later ones details", "change of the finished picture", numbers)]


def _of_change(numbers: dict[str, Any]) -> list[Claim]:
    return [_coarser("so do they in the prediction of x_0, at once", "change of x_0(x_t)", numbers)]


def _coarser(claim: str, what: str, numbers: dict[str, Any]) -> Claim:
    times = sorted(numbers["times"], key=lambda each: -each["time"])
    shares = ", ".join(f"{each['low_share']:.0%} at {each['time']:g} T" for each in times)
    holds = _larger(times[0]["low_share"], times[-1]["low_share"])
    return Claim(claim, f"share of low frequencies in the {what} {shares}", holds)


def _of_paths(numbers: dict[str, Any]) -> list[Claim]:
    kinds, pairs = numbers["kinds"], numbers["pairs"]
    lerp, slerp = kinds["lerp"]["semantic"], kinds["slerp"]["semantic"]
    same = numbers["same_pairs"]
    segments = lerp["by_segment"]
    count = max(1, math.ceil(ENDS * len(segments)))
    ends = fmean([*segments[:count], *segments[-count:]])
    middle = fmean(segments[len(segments) // 3 : -(len(segments) // 3)] or segments)
    return [
        Claim(
            "slerp paths are shorter than lerp paths",
            f"{slerp['mean']:.3g} against {lerp['mean']:.3g}; in {numbers['slerp_shorter']} of {pairs} pairs",
            _larger(lerp["mean"], slerp["mean"]),
        ),
        Claim(
            "segments of lerp are longest at the ends",
            f"{ends:.3g} at the ends, {middle:.3g} in the middle third",
            _larger(ends, middle),
        ),
        Claim(
            "geodesic paths are the shortest",
            "on the same pairs " + ", ".join(f"{kind} {value:.3g}" for kind, value in same.items()),
            all(_larger(same[kind], same["geodesic"]) for kind in ("lerp", "slerp")),
        ),
    ]


def _of_distortion(numbers: dict[str, Any]) -> list[Claim]:
    kinds, own = numbers["kinds"], numbers["plain"]["saturated"]
    kept, without = (kinds[name][-1] for name in ("normalised", "without"))
    return [
        Claim(
            "the normalisation prevents saturation at large gamma",
            f"at {kept['length']:g} gamma {kept['saturated']:.0%} of the values are saturated, "
            f"{without['saturated']:.0%} without it, {own:.0%} before the edit",
            abs(kept["saturated"] - own) < abs(without["saturated"] - own),
        )
    ]


def _of_curvature(numbers: dict[str, Any]) -> list[Claim]:
    along = numbers["along"]
    return [
        Claim(
            "X is curved and H nearly flat: one step turns the tangent space of X more (section 3.2)",
            f"mean principal angle {numbers['angle_in_x']:.2f} rad in X, {numbers['angle_in_h']:.2f} rad in H",
            numbers["angle_in_x"] > numbers["angle_in_h"],
        ),
        Claim(
            "shooting keeps to its direction where a straight line leaves it (section 3.2)",
            f"cosine between where h went and where it was sent, after {len(numbers['length'])} steps: "
            f"{along['shooting']:.2f}; straight {along['straight']:.2f}",
            along["shooting"] > along["straight"],
        ),
    ]


def _larger(one: float, other: float) -> bool:
    """Whether a positive number is clearly larger than another, see `CLEAR`."""
    return one > (1 + CLEAR) * other
