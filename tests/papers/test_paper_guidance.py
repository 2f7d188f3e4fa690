"""Measurements of the guidance family: known displacements, sizes and colours of drawn objects; cache; claims."""

import colorsys
from types import SimpleNamespace

import numpy as np
import pytest

from papers.guided import claims, moves, several
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


def test_hues_equal_those_of_colorsys():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    hue, saturation = several.hues(pixels)
    for row, column in np.ndindex(5, 7):
        h, s, _ = colorsys.rgb_to_hsv(*(pixels[row, column] / 255))
        assert hue[row, column] == pytest.approx(360 * h)
        assert saturation[row, column] == pytest.approx(s)


def test_both_colours_of_a_prompt_are_found():
    pixels = square(2, 2, 12, (220, 30, 40))
    pixels[20:32, 20:32] = (40, 90, 220)
    assert several.share(pixels, "red") == pytest.approx(144 / 1600)
    assert several.share(pixels, "blue") == pytest.approx(144 / 1600)
    assert several.share(pixels, "green") == 0
    chosen = several.prompts(50)
    assert len(chosen) == 50
    assert all(one != other for _, (one, other), _ in chosen)
    assert len({prompt for prompt, _, _ in chosen}) == 20


def test_cached_parts_are_recomputed_after_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr("papers.guided.study.evaluator_fingerprint", lambda evaluator: evaluator)
    delta, corpus = tmp_path / "delta", tmp_path / TABLE
    for file in (delta, corpus):
        file.write_bytes(b"one")
    network = SimpleNamespace(fingerprint=lambda: "weights")
    study = SimpleNamespace(
        model=SimpleNamespace(network=network), size=Size(moved=5, steps=6), delta=delta, data=tmp_path, evaluator="one"
    )
    calls = []

    def work(study):
        calls.append(1)
        return {"n": len(calls)}

    def part(version=1):
        return kept(study, tmp_path, "part", version, work, ("moved",))["n"]

    assert [part(), part()] == [1, 1]
    assert part(version=2) == 2
    study.size = Size(moved=5, steps=7)  # not read by the part
    assert part(version=2) == 2
    study.size = Size(moved=6)
    assert part(version=2) == 3
    delta.write_bytes(b"two")
    assert part(version=2) == 4
    corpus.write_bytes(b"two")
    assert part(version=2) == 5
    study.evaluator = "two"
    assert [part(version=2), part(version=2)] == [6, 6]


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
    found = claims._of_moves(numbers)
    assert [claim.holds for claim in found] == ([True] * 4 if moved else [False, False, True, False])
