"""Deterministic selection of the list of benchmark pairs, preferably from images on which no model was trained.

    python -m sfumato.bench.select data/emoji

writes `pairs.csv`; the file is identical for the same corpus. A pair consists of two drawings of one style that differ
in one attribute only (the corpus has a key for each attribute), or of one emoji in two styles. Pairs are ordered by
hash. The number of pairs per group of variants of one drawing is limited, and pairs are taken alternately from all
groups, so that large groups (hearts, hands) do not dominate. Kinds with too few held-out pairs are filled up with pairs
of the `train` split, which are marked as such: all hair styles belong to one emoji, "person", which is in the training
data, as are most of the colours.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from sfumato.bench import pairs
from sfumato.bench.pairs import STYLE, Pair, Row, read_corpus, write_list
from sfumato.data.splits import split_of

#: Number of pairs of each kind.
QUOTAS = {"tone": 100, "gender": 100, "hair": 40, "colour": 60, STYLE: 100}
#: Largest number of pairs from one group of variants.
PER_GROUP = 6
#: The multi-coloured styles that contain most of the emoji; their drawings differ in more than the outlines.
STYLES = ("fluent-color", "fluent-flat", "noto", "noto-blob", "twemoji", "emojitwo")
#: Smallest share of the image that must change in a pair.
SMALLEST = 0.01
#: Kind -> (column that variants share, column in which they differ).
ATTRIBUTES = {
    "tone": ("tone_key", "skin_tone"),
    "gender": ("gender_key", "gender"),
    "hair": ("hair_key", "hair"),
    "colour": ("colour_key", "colour"),
}

Candidate = tuple[Row, Row]


def select(rows: Sequence[Row], visible: Callable[[Row, Row], bool]) -> list[Pair]:
    """Select the pairs, ordered by kind and hash; the result does not depend on the order of the rows.

    Args:
        rows: the rows of the corpus.
        visible: whether two images differ enough to be a pair.
    """
    usable = [row for row in rows if row["style"] in STYLES and row["visible"] > 0 and not row["duplicate_of"]]
    usable = [row for row in usable if not row["variant"]]
    chosen = []
    for kind, quota in QUOTAS.items():
        taken = 0
        for source, target in _alternating(_groups(kind, usable)):
            if taken < quota and visible(source, target):
                chosen.append(Pair(kind, _split(target), source["file"], target["file"]))
                taken += 1
    return chosen


def _groups(kind: str, rows: Iterable[Row]) -> list[list[Candidate]]:
    """All ordered pairs of a kind, grouped by the variants of one drawing."""
    variants: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        if kind == STYLE:
            variants[row["codepoints"]].append(row)
        elif row[ATTRIBUTES[kind][0]] and "+" not in row["skin_tone"]:
            variants[row[ATTRIBUTES[kind][0]], row["style"], _split(row)].append(row)
    differs = STYLE if kind == STYLE else ATTRIBUTES[kind][1]
    groups: dict[Any, list[Candidate]] = defaultdict(list)
    for key, some in variants.items():
        for source, target in permutations(some, 2):
            if source[differs] == target[differs] or (kind == STYLE and _split(target) == "train"):
                continue
            # skin tones of one drawing, and one emoji in many styles, are one group
            group = source["base"] if kind == STYLE else (key[0].rsplit("/", 1)[0], *key[1:])
            groups[group].append((source, target))
    return list(groups.values())


def _alternating(groups: Iterable[Sequence[Candidate]]) -> Iterator[Candidate]:
    """The first pair by hash of every group, then the second, ...; held-out pairs before pairs of the train split."""
    ranked = []
    for group in groups:
        for rank, candidate in enumerate(sorted(group, key=_hash)[:PER_GROUP]):
            ranked.append((_split(candidate[1]) == "train", rank, _hash(candidate), candidate))
    for *_, candidate in sorted(ranked, key=lambda each: each[:3]):
        yield candidate


def _hash(candidate: Candidate) -> str:
    source, target = candidate
    return hashlib.sha256(f"{source['file']} -> {target['file']}".encode()).hexdigest()


def _split(row: Row) -> str:
    return split_of(row["base"], row["style"])


def select_from(corpus: Path) -> list[Pair]:
    """Select the pairs from the corpus in a folder. Raises BadInput if there is no corpus."""

    def visible(source: Row, target: Row) -> bool:
        mask = pairs.read_pair(corpus, 64, source, target).mask
        return mask is not None and bool(mask.mean() >= SMALLEST)

    return select(read_corpus(corpus), visible)


if __name__ == "__main__":
    write_list(select_from(Path(sys.argv[1])), Path(__file__).with_name(pairs.LIST))
