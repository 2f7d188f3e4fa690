"""The claims about the guidance methods with the measurement and the verdict.

A comparison holds if the difference, paired by image, is in the direction of the claim and significant at 5 %. Images
of one emoji in several styles are one group (`papers.sure.clustered`).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from papers.claim import Claim, as_sentence, claims_table
from papers.guided import attributes, object_claims, swaps
from papers.guided.bottleneck import AMOUNT, AMOUNTS
from papers.sure import clustered, clustered_difference, difference, estimate, with_error


def check(numbers: dict[str, Any]) -> list[Claim]:
    """All claims, checked against the numbers."""
    return [
        *_of_determinism(numbers["determinism"]),
        *_of_bottleneck(numbers["bottleneck"]),
        *_of_attributes(numbers["attributes"]),
        *_of_keys(numbers["keys"]),
        *_of_swaps(numbers["swaps"]),
        *object_claims.check(numbers),
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
    lines += ["", *_attributes_table(numbers["attributes"]), "", *object_claims.table(numbers)]
    errors = ", ".join(f"{name} {with_error(values)}" for name, values in images.items())
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
    of_pixels = f"{with_error(trained['change'])} of the pixels' range, P and D {with_error(both['change'])}"
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
            f"attribute {with_error(trained['attribute'])}, P and D {with_error(both['attribute'])} (difference "
            f"{asymmetric}); change {of_pixels}",
            asymmetric.positive and clustered_difference(trained["change"], both["change"], names).positive,
        ),
        Claim(
            "homogeneity: the delta-h of one image has the same effect on another",
            f"cosine of the changes {with_error(own)}; with that of another image {with_error(shuffled)} "
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
            f"distance to the nearest face grows by {with_error(in_h)}, in the noise by {with_error(in_eps)} "
            f"(difference {robust})",
            robust.positive,
        ),
        Claim(
            "consistency: delta-h is nearly the same at all timesteps",
            f"cosine of consecutive steps {consistent}",
            consistent.mean > 0.5,
        ),
    ]


def _of_attributes(numbers: Mapping[str, Any]) -> list[Claim]:
    amount = attributes.AMOUNTS.index(1.0)
    nearer, parts = [], []
    for name, found in numbers.items():
        own, text = attributes.at_equal_change(found, amount, "lpips")
        better = clustered_difference(text, own, found["emoji"])
        nearer.append(better.positive)
        parts.append(f"{name} {with_error(own)} and {with_error(text)} ({better}, n = {len(own)})")
    return [
        Claim(
            "delta-h (amount 1) is closer to the true drawing than a text edit with the same change elsewhere",
            f"LPIPS of delta-h and of the text edit: {'; '.join(parts)}",
            bool(nearer) and all(nearer),
        )
    ]


def _attributes_table(numbers: Mapping[str, Any]) -> list[str]:
    lines = [
        "Distances to the true drawing of the attribute, and mean change of the pixels that it leaves unchanged:",
        "",
        "| attribute | edit | LPIPS | RMS | change elsewhere |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    settings = {
        "unchanged": ("unchanged",),
        "asyrp": [f"delta-h, amount {each:g}" for each in attributes.AMOUNTS],
        "text": [f"text, guidance scale {each:g}" for each in attributes.SCALES],
    }
    for attribute, found in numbers.items():
        for method, names in settings.items():
            for n, name in enumerate(names):
                cells = [with_error(found[method][key][n]) for key in ("lpips", "rms", "outside")]
                lines.append(f"| {attribute} | {name} | {' | '.join(cells)} |")
    return lines


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
            f"overlap of the masks {with_error(guided)}, without them {with_error(without)} (difference {kept})",
            kept.positive,
        ),
        Claim(
            "DiffuseIT with a target image is closer to the true image than SDEdit and colour matching",
            f"RMS error {with_error(images['DiffuseIT'])}; "
            + ", ".join(f"{name} {with_error(images[name])} ({each})" for name, each in better.items()),
            all(each.positive for each in better.values()),
        ),
    ]


def _of_swaps(numbers: Mapping[str, Any]) -> list[Claim]:
    preference, shapes, names = numbers["preference"], numbers["overlap"], numbers["names"]
    amount = f"{swaps.PAPER:g}"
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
            f"overlap of the masks without it {with_error(shapes['0'])}; "
            + ", ".join(f"amount {each}: {with_error(shapes[each])} ({kept[each]})" for each in kept),
            kept[amount].positive,
        ),
    ]
