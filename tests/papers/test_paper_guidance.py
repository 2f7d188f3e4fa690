"""Measurements of the guidance family: known displacements, sizes and colours of drawn objects; cache; claims."""

from types import SimpleNamespace

import numpy as np
import pytest

from papers.guided import attributes, claims, moves, object_claims, several
from papers.guided.study import Size, centre, colour, ink, kept, overlap, rms, smaller
from sfumato.data.corpus import TABLE


def square(left, top, side, rgb=(255, 0, 0), canvas=40):
    pixels = np.full((canvas, canvas, 3), 255, dtype=np.uint8)
    pixels[top : top + side, left : left + side] = rgb
    return pixels


def test_a_moved_and_scaled_square_is_measured_exactly():
    source, edit = square(10, 10, 10), square(18, 14, 20, (255, 0, 51))
    found = moves.compared(source, edit)
    assert found["right"] == pytest.approx((28 - 15) / 40)
    assert found["down"] == pytest.approx((24 - 15) / 40)
    assert found["side"] == pytest.approx(2)
    assert found["colour"] == pytest.approx(0.2 / 3**0.5)
    assert moves.compared(source, source) == {"right": 0, "down": 0, "side": 1, "colour": 0, "elsewhere": 0}


def test_changes_outside_the_object_are_measured():
    """The old and the requested position of the object, each with a margin of one pixel, do not count."""
    source, moved = square(10, 10, 10), square(18, 10, 10)
    assert moves.compared(source, moved, right=0.2)["elsewhere"] == 0
    assert moves.requested(ink(source), 0.2, 1.0).tolist() == ink(moved).tolist()
    assert moves.requested(ink(source), 0, 2.0).tolist() == ink(square(5, 5, 20)).tolist()
    more = moved.copy()
    more[30:36, 2:8] = (0, 0, 255)
    assert moves.compared(source, more, right=0.2)["elsewhere"] == pytest.approx(36 * 2 / 3 / (1600 - 12 * 20))
    assert moves.compared(source, moved)["elsewhere"] > 0


def test_missing_object_has_size_zero():
    found = moves.compared(square(10, 10, 10), np.full((40, 40, 3), 255, dtype=np.uint8))
    assert found["side"] == 0
    assert found["right"] == pytest.approx(0.5 - 15 / 40)


def test_masks_and_distances():
    one, other = square(0, 0, 20), square(10, 0, 20)
    assert overlap(ink(one), ink(other)) == pytest.approx(1 / 3)
    assert centre(ink(one)) == pytest.approx((0.25, 0.25))
    assert colour(one, ink(one)).tolist() == [1, 0, 0]
    assert rms(one, one) == 0
    assert rms(np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)) == 1
    small = ink(smaller(square(0, 0, 40), 0.6))
    assert small.sum() == 24 * 24
    assert centre(small) == pytest.approx((0.5, 0.5))


def test_real_images_of_two_objects():
    drawings = {f"{name}, noto": square(0, 0, 40, colour) for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255)))}
    (image,) = several.composed(drawings, ("a", "b"), ["noto"])
    for colour_, x in (((255, 0, 0), 0.25), ((0, 0, 255), 0.75)):
        found = (image == colour_).all(axis=2)
        assert found.sum() == 18 * 18
        assert centre(found) == pytest.approx((x, 0.5))


def test_pairs_of_objects_have_different_nouns():
    chosen = several.pairs(60)
    assert len({frozenset(pair) for pair in chosen}) == 60
    assert len({one < other for one, other in chosen}) == 2, "both orders occur"
    assert all(one.split()[-1] != other.split()[-1] for one, other in chosen)


def test_change_outside_the_region_of_the_attribute():
    source, edit = square(0, 0, 20), square(0, 0, 20)
    edit[0, 0], edit[30, 30] = (0, 0, 0), (255, 255, 0)
    mask = np.zeros((40, 40), bool)
    mask[:20, :20] = True
    assert attributes.outside(source, edit, mask) == pytest.approx(1 / 3 / 1200)
    assert attributes.outside(source, edit, np.ones((40, 40), bool)) == 0


def test_text_edits_are_interpolated_at_the_change_of_the_delta_h():
    """Unchanged: distance 1. Text: 0.8 at a change of 0.1, 0.6 at 0.2 (first pair), in any order of the scales."""
    numbers = {
        "unchanged": {"lpips": [[1.0, 1.0, 1.0]]},
        "asyrp": {"lpips": [[0.7, 0.9, 0.5]], "outside": [[0.15, 0.05, 0.3]]},
        "text": {"lpips": [[0.6, 0.8, 0.6], [0.8, 0.6, 0.8]], "outside": [[0.2, 0.1, 0.2], [0.1, 0.2, 0.1]]},
    }
    own, text = attributes.at_equal_change(numbers, 0, "lpips")
    assert own == [0.7, 0.9, 0.5]
    assert text == pytest.approx([0.7, 0.9, 0.6])


@pytest.mark.parametrize("nearer", [True, False])
def test_claim_of_attributes_follows_the_numbers(nearer):
    amounts = len(attributes.AMOUNTS)
    own = [0.5, 0.51, 0.5] if nearer else [0.9, 0.91, 0.9]
    numbers = {
        "emoji": ["a", "b", "c"],
        "unchanged": {"lpips": [[1.0] * 3]},
        "asyrp": {"lpips": [own] * amounts, "outside": [[0.1] * 3] * amounts},
        "text": {"lpips": [[0.8, 0.82, 0.81]] * amounts, "outside": [[0.1] * 3] * amounts},
    }
    (claim,) = claims._of_attributes({"tone": numbers})
    assert claim.holds is nearer
    (one,) = claims._of_attributes({"tone": numbers | {"emoji": ["a"] * 3}})
    assert not one.holds, "skin tones of one emoji are one sample"
    (both,) = claims._of_attributes({"tone": numbers, "smile": numbers | {"asyrp": numbers["text"]}})
    assert not both.holds


@pytest.mark.parametrize("placed", [True, False])
def test_claim_of_places_follows_the_numbers(placed):
    numbers = {"names": list("abcd"), "requested": [0.25, 0.75, 0.25, 0.75], "plain": [0.5, 0.51, 0.49, 0.5]}
    numbers["placed"] = [0.27, 0.7, 0.3, 0.76] if placed else numbers["plain"]
    found = object_claims.of_places(numbers)
    assert found.holds is placed
    assert ("median distance 0.035" in found.measured) is placed


def test_claims_of_several_objects_follow_the_numbers():
    plain, better = [0, 1, 2, 0, 1, 0, 1, 0], [2, 2, 2, 2, 2, 2, 1, 2]
    numbers = {
        "plain sampling": plain,
        "attend-and-excite": better,
        "objects": plain,
        "pairs": [(a, a.upper()) for a in "abcdefgh"],
    }
    first, second = object_claims.of_several(numbers)
    assert first.holds
    assert not second.holds
    assert "88%" in first.measured
    assert "12%" in first.measured
    (shared, _) = object_claims.of_several(numbers | {"pairs": [("a", b) for b in "bcdefghi"]})
    assert shared.holds
    (same, _) = object_claims.of_several(numbers | {"pairs": [("a", "b"), ("b", "a")] * 4})
    assert not same.holds, "one pair in two orders is one sample"


def test_cached_parts_are_recomputed_after_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr("papers.guided.study.evaluator_fingerprint", lambda evaluator: evaluator)
    delta, corpus = tmp_path / "delta", tmp_path / TABLE
    for file in (delta, corpus):
        file.write_bytes(b"one")
    network = SimpleNamespace(fingerprint=lambda: "weights")
    study = SimpleNamespace(
        model=SimpleNamespace(network=network), size=Size(moved=5, steps=6), deltas={"tone": delta}, data=tmp_path,
        evaluator="one",
    )  # fmt: skip
    calls = []

    def work(study):
        calls.append(1)
        return {"n": len(calls)}

    def part(version=1, name="attributes"):
        return kept(study, tmp_path, name, version, work, ("moved",))["n"]

    assert [part(), part()] == [1, 1]
    assert part(version=2) == 2
    study.size = Size(moved=5, steps=7)  # not read by the part
    assert part(version=2) == 2
    study.size = Size(moved=6)
    assert part(version=2) == 3
    assert part(name="moves") == 4
    delta.write_bytes(b"two")
    assert part(name="moves") == 4  # does not depend on the delta-h
    assert part(version=2) == 5
    corpus.write_bytes(b"two")
    assert part(version=2) == 6
    study.evaluator = "two"
    assert [part(version=2), part(version=2)] == [7, 7]


def edits(right, side, colour):
    return {"right": right, "down": [0.0] * 4, "side": side, "colour": colour, "elsewhere": [0.0] * 4}


@pytest.mark.parametrize("moved", [True, False])
def test_claims_of_moves_follow_the_numbers(moved):
    """Requested: 0.15 to the right, factors 0.7 and 1.4."""
    still = edits([0.0, 0.01, 0.0, -0.01], [1.0, 1.01, 0.99, 1.0], [0.0] * 4)
    numbers = {"right": 0.15, "factors": [0.7, 1.4], "names": ["a", "b", "c", "d"], "edits": {"still": still}}
    numbers["edits"]["move"] = edits([0.14, 0.15, 0.2, 0.12], [1.0] * 4, [0.0] * 4) if moved else still
    for factor in ("0.7", "1.4"):
        numbers["edits"][f"resize {factor}"] = edits([0.0] * 4, [float(factor)] * 4 if moved else [1.0] * 4, [0.01] * 4)
    other = [0.3, 0.31, 0.3, 0.29] if moved else [0.01] * 4
    numbers["edits"]["resize 0.7, without appearance"] = edits([0.0] * 4, [0.7] * 4, other)
    found = object_claims.of_moves(numbers)
    assert [claim.holds for claim in found] == ([True] * 4 if moved else [False, False, True, False])
