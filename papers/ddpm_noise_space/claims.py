"""The claims of the edit-friendly paper with the measurement and the verdict, and the page as Markdown."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean, median
from typing import Any

from papers.claim import Claim, as_sentence, claims_table
from papers.ddpm_noise_space import comparison, recolouring, shifting, text_edits
from papers.sure import difference

EXACT, DEFAULT = 1e-6, 1e-5
"""Target bounds on the largest error of x_0, with `exact` and with the default settings."""
OBTUSE = 90.0
SEEN = 1.0
"""Smallest difference of PSNR in dB that counts as visible."""
LESS = 0.95
"""A perceptual distance counts as smaller if it is at most this fraction of the other one."""
AS_WELL = 0.02
"""Largest difference of two similarities to a prompt at which both count as equal."""
MOST = 0.9
"""A claim about every step must be true at this fraction of the steps, because near x_0 all maps are large."""


def check(numbers: dict[str, Any]) -> list[Claim]:
    """All claims, checked against the numbers."""
    parts: tuple[tuple[str, Callable[[Any], list[Claim]]], ...] = (
        ("noise_maps", _of_noise_maps),
        ("gaussian", _of_gaussian),
        ("reconstruction", _of_reconstruction),
        ("edits", partial(_of_edits, compared=numbers["comparison"])),
        ("shifting", _of_shifting),
        ("colour", _of_colour),
        ("comparison", _of_comparison),
    )
    return [claim for part, claims_of in parts for claim in claims_of(numbers[part])]


def as_markdown(numbers: dict[str, Any], claims: Sequence[Claim]) -> str:
    """Markdown tables: the claims, the reconstruction errors and the comparison of methods."""
    guidance_scale = numbers["noise_maps"]["source_guidance_scale"]
    lines = [
        *claims_table(claims),
        "",
        "Largest error of x_0 after a replay under the source prompt, in float32, and the rms and largest",
        f"error of the algorithm in the authors' code on the same image. Source guidance scale {guidance_scale:g}.",
        "",
        "| network predicts | size | steps | exact | default | authors' code, rms | authors' code, max |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in numbers["reconstruction"]:
        errors = " | ".join(f"{row[key]:.1e}" for key in ("exact_max", "default_max", "official_rms", "official_max"))
        lines.append(f"| {row['prediction']} | {row['width']} x {row['height']} | {row['steps']} | {errors} |")
    lines += ["", "All methods on the same edits, with the defaults of the model or the method; means over the images."]
    lines += [
        "LPIPS and structure are distances to the source (lower is closer), CLIP is the similarity to the target.",
        "",
    ]
    lines += comparison.table(numbers["comparison"])
    return "\n".join([*lines, "", as_sentence(numbers), ""])


def _of_noise_maps(numbers: dict[str, Any]) -> list[Claim]:
    friendly, native = numbers["edit-friendly"], numbers["native"]
    pairs = list(zip(friendly["variance"], native["variance"], strict=True))
    above = sum(a > b for a, b in pairs)
    negative = sum(value < 0 for value in friendly["correlation"])
    return [
        Claim(
            "edit-friendly z_t have a higher variance than native ones (fig. 4)",
            f"at {above} of {len(pairs)} steps; median {friendly['median_variance']:.3g} against "
            f"{native['median_variance']:.3g} (sampling: {numbers['sampling']['median_variance']:.3g})",
            above >= MOST * len(pairs),
        ),
        Claim(
            "consecutive edit-friendly z_t are negatively correlated (fig. 4)",
            f"at {negative} of {len(friendly['correlation'])} pairs; mean {friendly['mean_correlation']:+.2f}",
            negative >= MOST * len(friendly["correlation"]),
        ),
        Claim(
            "native z_t are uncorrelated, as in sampling (fig. 4)",
            f"mean {native['mean_correlation']:+.3f} (sampling: {numbers['sampling']['mean_correlation']:+.3f})",
            abs(native["mean_correlation"]) < 0.1,
        ),
    ]


def _of_gaussian(numbers: dict[str, Any]) -> list[Claim]:
    friendly, native = numbers["edit-friendly"], numbers["native"]
    deviation = max(
        abs(math.log(a / b))
        for kind in (friendly, native)
        for a, b in zip(kind["variance"], kind["expected_variance"], strict=True)
    )
    angles = f"{friendly['mean_angle_degrees']:.0f}° against {native['mean_angle_degrees']:.0f}°"
    return [
        Claim(
            "2-D Gaussian: angles between consecutive edit-friendly noise vectors tend to be obtuse (fig. 3)",
            f"mean {angles}; obtuse {friendly['obtuse_share']:.0%} against {native['obtuse_share']:.0%}",
            friendly["mean_angle_degrees"] > OBTUSE + 5 > native["mean_angle_degrees"],
        ),
        Claim(
            "2-D Gaussian: edit-friendly noise vectors are longer (fig. 3)",
            f"median variance {median(friendly['variance']):.3g} against {median(native['variance']):.3g}; "
            f"both follow their closed forms within {math.expm1(deviation):.1%}",
            all(a > b for a, b in zip(friendly["variance"], native["variance"], strict=True)),
        ),
    ]


def _of_reconstruction(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    exact, default, official = (max(row[key] for row in rows) for key in ("exact_max", "default_max", "official_max"))
    rms = max(row["official_rms"] for row in rows)
    return [
        Claim(
            "the inversion reconstructs to machine precision",
            f"largest error of x_0 over {len(rows)} settings: {exact:.1e} exact, {default:.1e} default",
            exact <= EXACT and default <= DEFAULT,
        ),
        Claim(
            "the algorithm in the authors' code, which sets the last noise map to zero, reconstructs equally well",
            f"error of x_0 up to {rms:.1e} rms, largest {official:.1e}",
            official <= DEFAULT,
        ),
    ]


def _of_edits(edits: Sequence[dict[str, Any]], compared: dict[str, dict[str, Any]]) -> list[Claim]:
    friendly = [each["edit-friendly"] for each in edits]
    apart = [each["distance_between_seeds"] for each in friendly if each["distance_between_seeds"] is not None]
    claims = [
        _of_structure(edits, compared),
        Claim(
            "different random e_t give different edits",
            f"rms difference of two seeds {_mean(apart):.1f} levels of 255 (smallest: {min(apart, default=0):.1f})",
            bool(apart) and min(apart) > 0.5,
        ),
    ]
    scored = [
        (each["source_similarity"], _mean(e["similarity"]))
        for each, e in zip(edits, friendly, strict=True)
        if e["similarity"]
    ]
    if scored:
        nearer = sum(after > before for before, after in scored)
        claims.append(
            Claim(
                "the edit follows the target prompt",
                f"similarity to it by the model's dual encoder increases for {nearer} of {len(scored)} images; mean "
                f"{_mean([a for a, _ in scored]):.2f} before, {_mean([b for _, b in scored]):.2f} after",
                nearer == len(scored),
            )
        )
    return claims


def _of_structure(edits: Sequence[dict[str, Any]], compared: dict[str, dict[str, Any]]) -> Claim:
    """Holds if edits with edit-friendly maps are significantly closer to the source by both measures, paired by image.

    SSIM is the mean over the seeds; the structure distance is that of the comparison of all methods.
    """
    ssim, native_ssim = ([_mean(each[name]["ssim"]) for each in edits] for name in text_edits.METHODS)
    distance, native_distance = (compared[name]["structure"] for name in text_edits.METHODS.values())
    more, less = difference(ssim, native_ssim), difference(native_distance, distance)
    return Claim(
        "under a different prompt edit-friendly maps preserve the structure, native ones lose it (fig. 2)",
        f"SSIM to the source {fmean(ssim):.2f} against {fmean(native_ssim):.2f} ({more}), structure distance "
        f"{fmean(distance):.3f} against {fmean(native_distance):.3f} (smaller by {less}); n = {len(ssim)}",
        more.positive and less.positive,
    )


def _of_shifting(shifts: Sequence[dict[str, Any]]) -> list[Claim]:
    claims = []
    for start in shifting.STARTS:
        pairs = [(each[start]["edit-friendly"]["psnr"], each[start]["native"]["psnr"]) for each in shifts]
        claims.append(
            Claim(
                f"shifted noise maps, {start}: edit-friendly maps shift the image, native ones lose it (fig. 5)",
                f"PSNR to the shifted image {fmean(a for a, _ in pairs):.1f} against {fmean(b for _, b in pairs):.1f}"
                f" dB; higher for {sum(a > b for a, b in pairs)} of {len(pairs)} images",
                fmean(a - b for a, b in pairs) >= SEEN,
            )
        )
    return claims


def _of_colour(edits: Sequence[dict[str, Any]]) -> list[Claim]:
    ours = [each["ours"] for each in edits]
    theirs = [recolouring.at_equal_colour(each) for each in edits]
    before = [each["before"]["colour"] for each in edits]
    nearer = sum(a["colour"] < b for a, b in zip(ours, before, strict=True))
    texture = [(a["texture"], b["texture"]) for a, b in zip(ours, theirs, strict=True)]
    return [
        Claim(
            "moving z_t by eq. 7 moves the mean colour towards the target colour",
            f"mean colour closer to it for {nearer} of {len(edits)} images: distance {fmean(before):.0f}"
            f" levels of 255 before, {fmean(e['colour'] for e in ours):.0f} after",
            nearer == len(edits),
        ),
        Claim(
            "it preserves the texture, which SDEdit loses (fig. 6)",
            f"correlation of the brightness with the source {fmean(a for a, _ in texture):.2f} against "
            f"{fmean(b for _, b in texture):.2f} for SDEdit at the noise level with the most similar colour",
            fmean(a for a, _ in texture) > fmean(b for _, b in texture),
        ),
    ]


def _of_comparison(numbers: dict[str, dict[str, Any]]) -> list[Claim]:
    """Compares methods that were published with DDIM inversion, with edit-friendly and with DDIM inversion."""
    claims = []
    for name in dict.fromkeys(row.partition(", ")[0] for row in numbers if ", " in row):
        ours, ddim = (numbers[f"{name}, {inversion}"] for inversion in comparison.INVERSIONS)
        fidelity = fmean(ours["lpips"]), fmean(ddim["lpips"])
        adherence = fmean(ours["clip"]), fmean(ddim["clip"])
        claims.append(
            Claim(
                f"{name} is more faithful over edit-friendly than over DDIM inversion, at equal adherence (fig. 7)",
                f"LPIPS to the source {fidelity[0]:.2f} against {fidelity[1]:.2f}, similarity to the target "
                f"{adherence[0]:.2f} against {adherence[1]:.2f}",
                fidelity[0] <= LESS * fidelity[1] and adherence[0] >= adherence[1] - AS_WELL,
            )
        )
    return claims


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan
