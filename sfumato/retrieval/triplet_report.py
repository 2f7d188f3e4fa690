"""Quality of triplets: agreement with true labels, and independence of content and style."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from sfumato.retrieval.triplets import NONE, Images, RowNumbers, Triplets


def report(triplets: Triplets) -> dict[str, float | int]:
    """Evaluate triplets.

    Returns:
        The number of outputs, of outputs without a style or content image, and of complete triplets. For the images
        found: the mean cosine with x, and the expected cosine of a random image of the database ("random"). If labels
        are known: the share with the same true style or content as x, and the expected share of a random image.
    """
    found: dict[str, float | int] = {
        "outputs": len(triplets.outputs),
        "without_content": int((triplets.y == NONE).sum()),
        "without_style": int((triplets.s == NONE).sum()),
        "triplets": len(triplets.complete),
    }
    sides = {"content": (triplets.contents, triplets.y), "style": (triplets.styles, triplets.s)}
    for side, (database, rows) in sides.items():
        chosen = np.flatnonzero(rows != NONE)
        if len(chosen):
            for modality in ("content", "style"):
                found |= _of(triplets.outputs.take(chosen.tolist()), database, rows[chosen], side, modality)
    return found


def nothing_found(triplets: Triplets, *, same_content: bool) -> str:
    """A sentence that says why there is no complete triplet, and what to do.

    Args:
        triplets: the triplets, none of which is complete.
        same_content: whether the content images had to have the true content of x.
    """
    found = report(triplets)
    labels = ", and with --same-content labels that x and the content database have in common" if same_content else ""
    return (
        f"No image has both a content and a style image: of {found['outputs']} images x, {found['without_content']} "
        f"have no content image in the database of {len(triplets.contents)}, and {found['without_style']} no style "
        f"image in that of {len(triplets.styles)}; give larger databases, a larger -k, --most-style or "
        f"--most-content{labels}."
    )


def _of(outputs: Images, database: Images, rows: RowNumbers, side: str, modality: str) -> Mapping[str, float]:
    """Measurements of one modality of the images found on one side."""
    own, theirs = outputs.vectors[modality], database.vectors[modality]
    name = f"{modality}_of_{side}_image"
    found = {
        f"{name}_cosine": float((own * theirs[rows]).sum(1).mean()),
        f"{name}_random_cosine": float(own.mean(0) @ theirs.mean(0)),
    }
    if modality in outputs.labels and modality in database.labels:
        all_labels = database.labels[modality]
        chosen = zip(outputs.labels[modality], (all_labels[row] for row in rows), strict=True)
        pairs = [(mine, other) for mine, other in chosen if mine is not None and other is not None]
        counts = Counter(label for label in all_labels if label is not None)
        if pairs:
            found[f"{name}_same"] = float(np.mean([mine == other for mine, other in pairs]))
            found[f"{name}_random_same"] = float(np.mean([counts[mine] / counts.total() for mine, _ in pairs]))
    return found
