"""The claims about the guidance methods with the measurement and the verdict.

A comparison holds if the difference, paired by image, is in the direction of the claim and significant at 5 %. Images
of one emoji in several styles are one group (`papers.sure.clustered`).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median, stdev
from typing import Any

from papers.claim import Claim, as_sentence, claims_table
from papers.guided import swaps
from papers.guided.bottleneck import AMOUNT, AMOUNTS
from papers.sure import clustered, clustered_difference, difference, estimate, sign_test

MOVE, RESIZE = 0.06, 0.15
"""Target median errors: of a displacement, as a fraction of the image; of a size, relative to the requested size."""
ELSEWHERE = 0.02
"""Largest mean change of pixels that belong to no object, as a fraction of the range of values."""


def check(numbers: dict[str, Any]) -> list[Claim]:
    """All claims, checked against the numbers."""
    return [
        *_of_determinism(numbers["determinism"]),
        *_of_bottleneck(numbers["bottleneck"]),
        *_of_keys(numbers["keys"]),
        *_of_moves(numbers["moves"]),
        *_of_swaps(numbers["swaps"]),
        *_of_several(numbers["several"]),
    ]


def as_markdown(numbers: dict[str, Any], claims: Sequence[Claim]) -> str:
    """Markdown: the claims, and tables of delta-h, moves and style transfer."""
    edits, images = numbers["bottleneck"]["edits"], numbers["keys"]["images"]
    lines = [
        *claims_table(claims),
        "",
        "A comparison holds if the difference, paired by image, is significant at 5 % (Student's distribution; images "
        "of one emoji in several styles are one group). ± is a standard error; that of a single mean is over images.",
        "",
        f'Delta-h "{numbers["bottleneck"]["attribute"]}", {len(edits["both"]["change"])} faces of the corpus, amount '
        f"{AMOUNT:g} unless stated:",
        "",
        "| edit | towards the text | change of pixels | further from the nearest face | cosine with the edit |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in edits.items():
        cells = [estimate(found[key]) for key in ("attribute", "change", "damage", "agreement")]
        lines.append(f"| {name} | {' | '.join(f'{each.mean:+.3f} ± {each.error:.3f}' for each in cells)} |")
    lines += [
        "",
        f"Self-Guidance, {len(numbers['moves']['edits']['still']['right'])} objects of 60 % of the canvas:",
        "",
        "| edit | right | factor of the side | difference of the mean colour | change elsewhere |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in numbers["moves"]["edits"].items():
        cells = [estimate(found[key]) for key in ("right", "side", "colour", "elsewhere")]
        lines.append(f"| {name} | {' | '.join(f'{each.mean:.3f} ± {each.error:.3f}' for each in cells)} |")
    errors = ", ".join(f"{name} {_with_error(values)}" for name, values in images.items())
    count = len(next(iter(images.values())))
    lines += ["", f"RMS error of style transfer to the true image in the other style, {count} images: {errors}."]
    return "\n".join([*lines, "", as_sentence(numbers), ""])


def _of_determinism(numbers: Mapping[str, Any]) -> list[Claim]:
    same, other = numbers["0"], numbers["1"]
    text = (
        f"largest difference of {len(same)} pairs with other seeds: {max(same)} grey levels, as no noise is drawn; "
        f"eta = 1: {min(other)}"
    )
    return [Claim("sigma = 0: the process is a function of x_T", f"{text} or more", max(same) == 0 < min(other))]


def _of_bottleneck(numbers: Mapping[str, Any]) -> list[Claim]:
    edits, names = numbers["edits"], numbers["names"]
    trained, both = edits[f"{AMOUNT:g}"], edits["both"]
    asymmetric = clustered_difference(trained["attribute"], both["attribute"], names)
    of_pixels = f"{_with_error(trained['change'])} of the pixels' range, P and D {_with_error(both['change'])}"
    own, shuffled = edits["borrowed"]["agreement"], edits["borrowed"]["agreement_of_samples"]
    homogeneous = clustered_difference(own, shuffled, names)
    scores = [edits[f"{amount:g}"]["attribute"] for amount in AMOUNTS]
    slopes = [clustered_difference(later, earlier, names) for earlier, later in pairwise(scores)]
    steps = ", ".join(f"{a:g} to {b:g}: {each}" for (a, b), each in zip(pairwise(AMOUNTS), slopes, strict=True))
    opposite = clustered([-each for each in edits[f"{-AMOUNT:g}"]["agreement"]], names)
    in_h, in_eps = edits["random in h"]["damage"], edits["random in eps"]["damage"]
    robust = clustered_difference(in_eps, in_h, names)
    consistent = clustered(numbers["same_steps"], names)
    return [
        Claim(
            "delta-h in P alone changes the attribute, in P and D the changes cancel (theorem 1)",
            f"attribute {_with_error(trained['attribute'])}, P and D {_with_error(both['attribute'])} (difference "
            f"{asymmetric}); change {of_pixels}",
            asymmetric.positive and clustered_difference(trained["change"], both["change"], names).positive,
        ),
        Claim(
            "homogeneity: the delta-h of one image has the same effect on another",
            f"cosine of the changes {_with_error(own)}; with that of another image {_with_error(shuffled)} "
            f"(difference {homogeneous})",
            homogeneous.positive and estimate(own).mean > 0.5,
        ),
        Claim("linearity: the attribute grows with the amount", f"from {steps}", all(each.positive for each in slopes)),
        Claim(
            "linearity: the negative amount makes the opposite edit",
            f"minus the cosine of the changes {opposite}",
            opposite.positive,
        ),
        Claim(
            "robustness: random changes of h damage the image less than equal ones of the noise",
            f"distance to the nearest face grows by {_with_error(in_h)}, in the noise by {_with_error(in_eps)} "
            f"(difference {robust})",
            robust.positive,
        ),
        Claim(
            "consistency: delta-h is nearly the same at all timesteps",
            f"cosine of consecutive steps {consistent}",
            consistent.mean > 0.5,
        ),
    ]


def _of_keys(numbers: Mapping[str, Any]) -> list[Claim]:
    same, other = "the same emoji in another style", "another emoji in the same style"
    keys, token = numbers["features"]["keys"], numbers["features"]["class token"]
    structure, style = difference(keys[other], keys[same]), difference(token[same], token[other])
    guided, without = numbers["texts"]["losses of the keys"], numbers["texts"]["without"]
    kept = clustered_difference(guided, without, numbers["texts"]["names"])
    images = numbers["images"]
    better = {name: difference(images[name], images["DiffuseIT"]) for name in ("SDEdit", "colour matching")}
    return [
        Claim(
            "keys of the ViT carry structure: they differ less between styles than between objects",
            f"{fmean(keys[same]):.4f} and {fmean(keys[other]):.4f} (difference {structure}), n = {len(keys[same])}",
            structure.positive,
        ),
        Claim(
            "the class token carries style: it differs less between objects than between styles",
            f"{fmean(token[other]):.3f} and {fmean(token[same]):.3f} (difference {style}), n = {len(token[same])}",
            style.positive,
        ),
        Claim(
            "the losses of the keys keep the shape while the text changes the object",
            f"overlap of the masks {_with_error(guided)}, without them {_with_error(without)} (difference {kept})",
            kept.positive,
        ),
        Claim(
            "DiffuseIT with a target image is closer to the true image than SDEdit and colour matching",
            f"RMS error {_with_error(images['DiffuseIT'])}; "
            + ", ".join(f"{name} {_with_error(images[name])} ({each})" for name, each in better.items()),
            all(each.positive for each in better.values()),
        ),
    ]


def _of_moves(numbers: Mapping[str, Any]) -> list[Claim]:
    edits, right, names = numbers["edits"], numbers["right"], numbers["names"]
    moved = [abs(a - right) + abs(b) for a, b in zip(edits["move"]["right"], edits["move"]["down"], strict=True)]
    further = clustered_difference(edits["move"]["right"], edits["still"]["right"], names)
    claims = [
        Claim(
            f"Self-Guidance moves: requested {right:g} of the width, median error at most {MOVE:g}",
            f"median error {median(moved):.3f}, moved {_with_error(edits['move']['right'])} (more than without: "
            f"{further}), n = {len(moved)}",
            median(moved) <= MOVE,
        )
    ]
    sides = {factor: edits[f"resize {factor:g}"]["side"] for factor in numbers["factors"]}
    off = {factor: median(abs(side / factor - 1) for side in found) for factor, found in sides.items()}
    text = "; ".join(
        f"{factor:g}: median error {off[factor]:.0%}, factor {_with_error(sides[factor])}" for factor in sides
    )
    claims.append(
        Claim(
            f"Self-Guidance resizes, up and down: median errors of the side at most {RESIZE:.0%}",
            f"requested {text}; without guidance {_with_error(edits['still']['side'])}",
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
            f"mean change {_with_error(edits['move']['elsewhere'])} of the range, without guidance "
            f"{_with_error(edits['still']['elsewhere'])} ({elsewhere})",
            fmean(edits["move"]["elsewhere"]) <= ELSEWHERE,
        ),
        Claim(
            "the appearance term keeps the style while the shape changes",
            f"difference of the mean colour {_with_error(shrunk)}, without the term {_with_error(alone)} ({style})",
            style.positive,
        ),
    ]


def _of_swaps(numbers: Mapping[str, Any]) -> list[Claim]:
    preference, shapes, names = numbers["preference"], numbers["overlap"], numbers["names"]
    amount = f"{swaps.AMOUNTS[1]:g}"
    swapped = clustered_difference(preference[amount], preference["unchanged"], names)
    nearer = sum(value > 0 for value in preference[amount])
    kept = {each: clustered_difference(shapes[each], shapes["0"], names) for each in shapes if each != "0"}
    return [
        Claim(
            "pix2pix-zero's direction swaps the object",
            f"similarity to the target text minus that to the source's grows by {swapped}; nearer the target in "
            f"{nearer} of {len(preference[amount])} images of {len(set(names))} emoji",
            swapped.positive,
        ),
        Claim(
            f"pix2pix-zero's guidance (amount {amount}) keeps the structure",
            f"overlap of the masks without it {_with_error(shapes['0'])}; "
            + ", ".join(f"amount {each}: {_with_error(shapes[each])} ({kept[each]})" for each in kept),
            kept[amount].positive,
        ),
    ]


def _of_several(numbers: Mapping[str, Any]) -> list[Claim]:
    both = {name: [count == 2 for count in counts] for name, counts in numbers.items()}
    plain = both.pop("plain sampling")
    text = ", ".join(f"{name} {fmean(values):.0%}" for name, values in both.items())
    found = []
    for name, values in both.items():
        p = sign_test(values, plain)
        found.append(
            Claim(
                f"{name}: more images with both objects than plain sampling",
                f"both colours present: {text}, plain sampling {fmean(plain):.0%} of {len(plain)} prompts (McNemar's "
                f"exact test: p = {p:.2g})",
                fmean(values) > fmean(plain) and p < 0.05,
            )
        )
    return found


def _with_error(values: Sequence[float]) -> str:
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{fmean(values):.3f} ± {error:.3f}"
