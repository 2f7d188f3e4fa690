"""The comparison of settings as Markdown and as JSON."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from papers.paired.equal import matches, on_front
from papers.paired.results import ADHERENCE, ERROR, Results
from sfumato.bench.items import edit_metrics
from sfumato.bench.summary import COSTS

#: Metric or cost -> head and number format of its column.
COLUMNS = {
    "target_psnr": ("ground truth, PSNR ↑", ".2f"),
    "target_lpips": ("ground truth, LPIPS ↓", ".3f"),
    "outside_psnr": ("outside, PSNR ↑", ".1f"),
    "structure": ("structure ↓", ".3f"),
    "clip": ("CLIP ↑", ".3f"),
    "clip_nearer": ("nearer ↑", ".0%"),
    "clip_direction": ("direction ↑", ".3f"),
    "cpu_seconds": ("CPU s", ".2f"),
    "evaluations": ("evaluations", ".0f"),
}


def as_markdown(results: Results) -> str:
    """Markdown tables: means, comparison at equal adherence, error and adherence for each kind of edit."""
    lost = f" ({results.lost} more were not finished by every setting and are excluded)" if results.lost else ""
    lines = [
        f"{len(results.items)} edits{lost}. An asterisk marks settings that no other row beats in both squared error"
    ]
    lines += [
        "to the ground truth and direction.",
        "",
        *_means(results),
        "",
        *_equal(results),
        "",
        *_kinds(results),
        "",
    ]
    return "\n".join(lines)


def _means(results: Results) -> Iterator[str]:
    front = on_front(results)
    yield f"| setting | {' | '.join(head for head, _ in COLUMNS.values())} |"
    yield "| --- |" + " ---: |" * len(COLUMNS)
    for setting in results.methods:
        cells = [f"{results.mean(setting, name):{form}}" for name, (_, form) in COLUMNS.items()]
        yield f"| {setting}{' *' if setting in front else ''} | {' | '.join(cells)} |"


def _equal(results: Results) -> Iterator[str]:
    what = "our best setting at that adherence or more | adherence, ours - theirs | squared error, ours - theirs"
    yield f"| diffusers | adherence by | {what} | ours better |"
    yield "| --- | --- | --- | ---: | ---: | --- |"
    for each in matches(results):
        by = COLUMNS[each.adherence][0].removesuffix(" ↑")
        if each.ours is None:
            yield f"| {each.theirs} | {by} | none | | | **no** |"
            continue
        percent = 100 * each.difference.mean / results.mean(each.theirs, ERROR)
        change = f"{each.difference.mean:+.4f} ± {each.difference.error:.4f} ({percent:+.0f} %)"
        surplus = f"{each.surplus.mean:+.3f} ± {each.surplus.error:.3f}"
        yield f"| {each.theirs} | {by} | {each.ours} | {surplus} | {change} | {'yes' if each.beaten else '**no**'} |"


def _kinds(results: Results) -> Iterator[str]:
    kinds = list(dict.fromkeys(results.kinds))
    yield f"| PSNR to the ground truth / direction | {' | '.join(f'{k} ({results.kinds.count(k)})' for k in kinds)} |"
    yield "| --- |" + " ---: |" * len(kinds)
    for setting, values in results.values.items():
        cells = []
        for kind in kinds:
            some = np.array([each == kind for each in results.kinds])
            psnr, direction = (float(np.nanmean(values[name][some])) for name in ("target_psnr", ADHERENCE))
            cells.append(f"{psnr:.1f} / {direction:.2f}")
        yield f"| {setting} | {' | '.join(cells)} |"


def numbers(results: Results) -> dict[str, Any]:
    """All numbers of the tables and the means of all metrics and costs, as JSON values."""
    return {
        "edits": len(results.items),
        "lost": results.lost,
        "means": {
            setting: {name: results.mean(setting, name) for name in (*edit_metrics(), *COSTS)}
            for setting in results.methods
        },
        "equal adherence": [each.as_json() for each in matches(results)],
        "front": on_front(results),
    }
