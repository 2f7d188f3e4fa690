"""The claims of the geometry paper with the measurement and the verdict.

A comparison over samples holds if the paired difference, or the trend over t, is significant: see `sure`. Images of one
prompt are one group (`papers.sure.clustered`), and so are pairs of images of the same prompts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, TypeAlias

from papers.claim import Claim, as_sentence, claims_table
from papers.latent_geometry.local import LEADING
from papers.latent_geometry.walks import COLOURS
from papers.sure import RULE, Estimate, Samples, clustered, clustered_difference, trend

Groups: TypeAlias = Callable[[int], Sequence[int]]
"""Maps the number of samples to their groups; `range` for independent samples."""
ENDS = 0.1
"""Fraction of the segments of a path that counts as its ends, on each side."""


def check(numbers: dict[str, Any]) -> list[Claim]:
    """All claims, checked against the numbers."""
    prompts = len(numbers["prompts"])
    images, pairs = by_prompt(prompts, 1), by_prompt(prompts, 2)
    return [
        *_of_edits(numbers["edits"], images),
        *_of_local(numbers["local"], images, pairs),
        *_of_timing(numbers["timing"], images),
        *_of_change(numbers["change"], images),
        *_of_paths(numbers["paths"], pairs),
        *_of_distortion(numbers["distortion"], images),
        *_of_curvature(numbers["curvature"], numbers["size"]["gamma"], images),
    ]


def by_prompt(prompts: int, images: int) -> Groups:
    """Groups of samples of `images` consecutive images each; image n has the prompt n modulo `prompts`.

    The group of a pair is the prompt of its first image. Samples of a single prompt are treated as independent.
    """
    return range if prompts == 1 else lambda count: [n * images % prompts for n in range(count)]


def as_markdown(numbers: dict[str, Any], claims: Sequence[Claim]) -> str:
    """Markdown tables: the claims, the kinds of directions and the paths."""
    edits, paths, groups = numbers["edits"], numbers["paths"], by_prompt(len(numbers["prompts"]), 1)
    names = list(next(iter(edits["kinds"].values())))
    left = ", ".join(f"{kind} {value:.2g}" for kind, value in edits["left"].items())
    lines = [
        *claims_table(claims),
        "",
        f"{RULE} Images of one of the {len(numbers['prompts'])} prompts are one group.",
        "",
        f"Edits at t = T of {edits['samples']} generated images, both signs; each moves the latent by",
        f"{edits['distance']:g}, without the normalisation (which reduces a length of {edits['gamma']:g} to: {left}).",
        "Cosines and distances of the dual encoder's features, means and standard errors over the images; of the",
        "agreement those of the jackknife over the images, and random directions that all images share.",
        "",
        f"| directions | {' | '.join(names)} |",
        "| --- |" + " ---: |" * len(names),
    ]
    for kind, found in edits["kinds"].items():
        means = [clustered(found[name], groups(len(found[name]))) for name in names]
        cells = [f"{each.mean:.3f} ± {each.error:.3f}" for each in means]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Paths at t = T over {paths['pairs']} pairs; mean total length and its standard deviation between pairs",
        f"(geodesics for the first {len(paths['same_pairs']['geodesic'])} pairs only, perceptual lengths for the first"
        f" {paths['animations']}).",
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


def _of_edits(numbers: dict[str, Any], images: Groups = range) -> list[Claim]:
    kinds = numbers["kinds"]
    pullback, random, pca, shared = (kinds[name] for name in ("pullback", "random", "pca", "global"))
    claims = [
        _more(
            "a direction changes an image coherently: +gamma and -gamma have opposite effects",
            "cosine",
            pullback["coherence"],
            {"random directions": random["coherence"]},
            images,
        ),
        _more(
            "a global direction has the same effect in every image",
            "cosine between the changes of two images",
            shared["agreement"],
            {
                "each image's own directions of the same rank": pullback["agreement"],
                "random ones, the same for every image": random["agreement"],
            },
            images,
        ),
        _more(
            "random directions damage the image more",
            "increase of the distance to the nearest images",
            random["damage"],
            {"pullback": pullback["damage"]},
            images,
        ),
    ]
    if "concentration" in pullback:
        what = f"share of the change on the strongest of {len(numbers['axes'])} attributes"
        claims += [
            _more(
                "a direction changes one attribute only",
                what,
                pullback["concentration"],
                {"random directions": random["concentration"]},
                images,
            ),
            _more(
                "principal components of h are more entangled",
                f"{what}: pullback",
                pullback["concentration"],
                {"principal components": pca["concentration"]},
                images,
            ),
        ]
    return claims


def _of_local(numbers: dict[str, Any], images: Groups = range, pairs: Groups = range) -> list[Claim]:
    times = sorted(numbers["times"], key=lambda each: each["time"])
    return [
        _over_time(
            "early directions have lower frequencies than late ones",
            "share of low frequencies",
            times,
            "low_share",
            images,
        ),
        _over_time(
            "the spectrum of singular values becomes flatter as t goes to 0",
            "effective dimension",
            times,
            "effective_dimension",
            images,
            falls=True,
        ),
        _more(
            "directions of different images overlap at t = T",
            f"mean |cos| of the first {LEADING}, matched, in pairs of images",
            times[-1]["leading_overlap"],
            {"random spaces": numbers["leading_chance"]},
            pairs,
        ),
        _over_time("they overlap less at small t", "mean |cos|, matched, in pairs", times, "leading_overlap", pairs),
    ]


def _of_timing(numbers: dict[str, Any], images: Groups = range) -> list[Claim]:
    claim = "edits at T change coarse structure, later ones details"
    what = "share of low frequencies in the change of the final image"
    return [_over_time(claim, what, numbers["times"], "low_share", images)]


def _of_change(numbers: dict[str, Any], images: Groups = range) -> list[Claim]:
    claim = "the same holds for the prediction of x_0 at the edited step"
    what = "share of low frequencies in the change of x_0(x_t)"
    return [_over_time(claim, what, numbers["times"], "low_share", images)]


def _of_paths(numbers: dict[str, Any], pairs: Groups = range) -> list[Claim]:
    semantic, same = numbers["semantic"], numbers["same_pairs"]
    shorter = _wins(semantic["slerp"], semantic["lerp"])
    wins = " and ".join(f"than {kind} in {_wins(same['geodesic'], same[kind])}" for kind in ("lerp", "slerp"))
    ends, middle = zip(*map(_ends_and_middle, numbers["lerp_segments"]), strict=True)
    return [
        _more(
            "slerp paths are shorter than lerp paths",
            f"semantic length, slerp shorter in {shorter} of {numbers['pairs']} pairs: lerp",
            semantic["lerp"],
            {"slerp": semantic["slerp"]},
            pairs,
        ),
        _more("segments of lerp are longest at the ends", "at the ends", ends, {"middle third": middle}, pairs),
        _less(
            "geodesic paths are the shortest",
            f"semantic length, shorter {wins} of {len(same['geodesic'])} pairs: geodesic",
            same["geodesic"],
            {kind: same[kind] for kind in ("lerp", "slerp")},
            pairs,
        ),
    ]


def _wins(one: Samples, other: Samples) -> int:
    """Number of pairs in which `one` is smaller."""
    return sum(a < b for a, b in zip(one, other, strict=True))


def _ends_and_middle(segments: Samples) -> tuple[float, float]:
    """Mean length of the segments at the ends, and of those of the middle third."""
    count = max(1, math.ceil(ENDS * len(segments)))
    middle = segments[len(segments) // 3 : -(len(segments) // 3)] or segments
    return fmean([*segments[:count], *segments[-count:]]), fmean(middle)


def _of_distortion(numbers: dict[str, Any], images: Groups = range) -> list[Claim]:
    """Holds only if edits without the normalisation cause saturation."""
    own = numbers["plain"]["saturated"]
    kept, without = (numbers["kinds"][name][-1] for name in ("normalised", "without"))
    groups = images(len(own))
    caused, left = (clustered_difference(each["saturated"], own, groups) for each in (without, kept))
    prevented = clustered_difference(without["saturated"], kept["saturated"], groups)
    return [
        Claim(
            "the normalisation prevents saturation at large gamma",
            f"share of saturated values at {kept['length']:g} gamma minus that before the edit ({fmean(own):.0%}): "
            f"{caused} without it, {left} with it; n = {len(own)}",
            caused.positive and prevented.positive,
        )
    ]


def _of_curvature(numbers: dict[str, Any], gamma: float, images: Groups = range) -> list[Claim]:
    turned, along = numbers["turned"], numbers["along"]
    return [
        _more(
            "X is curved and H nearly flat: one step rotates the tangent space of X more (section 3.2)",
            f"mean principal angle after a step of {numbers['step']:g}, relative to that of random spaces: X",
            turned["x"],
            {"H": turned["h"]},
            images,
        ),
        _more(
            "shooting keeps its direction, a straight line does not (section 3.2)",
            f"cosine of the actual and the intended change of h, after {len(numbers['length'])} steps of length "
            f"{gamma:g}: shooting",
            along["shooting"],
            {"straight": along["straight"]},
            images,
        ),
    ]


def _more(claim: str, what: str, values: Samples, others: Mapping[str, Samples], groups: Groups) -> Claim:
    """The claim that `values` are significantly larger than each of the others."""
    found = {name: clustered_difference(values, other, groups(len(values))) for name, other in others.items()}
    return _compared(claim, what, values, others, found, all(each.positive for each in found.values()))


def _less(claim: str, what: str, values: Samples, others: Mapping[str, Samples], groups: Groups) -> Claim:
    """The claim that `values` are significantly smaller than each of the others."""
    found = {name: clustered_difference(values, other, groups(len(values))) for name, other in others.items()}
    return _compared(claim, what, values, others, found, all(each.negative for each in found.values()))


def _compared(
    claim: str,
    what: str,
    values: Samples,
    others: Mapping[str, Samples],
    differences: Mapping[str, Estimate],
    holds: bool,
) -> Claim:
    against = ", ".join(f"{name} {fmean(other):.3g} ({differences[name]})" for name, other in others.items())
    return Claim(claim, f"{what} {fmean(values):.3g}; {against}; n = {len(values)}", holds)


def _over_time(
    claim: str, what: str, times: Sequence[Mapping[str, Any]], name: str, groups: Groups, *, falls: bool = False
) -> Claim:
    """The claim that a quantity significantly increases with t (decreases with `falls`).

    It does not hold if the value at a later time is significantly beyond that at the first time.
    """
    first, *later = sorted(times, key=lambda each: -each["time"])
    values = ", ".join(f"{fmean(each[name]):.2g} at {each['time']:g} T" for each in (first, *later))
    samples = groups(len(first[name]))
    slope = trend([each["time"] for each in times], [each[name] for each in times], samples)
    beyond = [clustered_difference(each[name], first[name], samples) for each in later]
    if falls:
        holds = slope.negative and not any(each.negative for each in beyond)
    else:
        holds = slope.positive and not any(each.positive for each in beyond)
    return Claim(claim, f"{what} {values}; trend {slope} per T; n = {len(first[name])}", holds)
