"""R-precision against a loop in plain Python, its limiting cases and invalid input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import BadInput, NonFinite
from sfumato.metrics import r_precision, retrieved


def features(seed, n, d=6):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


def by_loop(images, texts, captions, wrong_captions):
    """Whether image i is closer to its caption than to each caption of wrong_captions[i]."""
    cosine = torch.nn.functional.cosine_similarity
    hits = []
    for i, others in enumerate(wrong_captions):
        own = cosine(images[i], texts[i], dim=0)
        hits.append(all(own > cosine(images[i], texts[captions.index(other)], dim=0) for other in others))
    return hits


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 12))
def test_r_precision_equals_the_loop_over_captions(seed, n):
    captions = [f"caption {i % (n - 1)}" for i in range(n)]  # the first and the last are the same
    images, texts = features(seed, n), features(seed + 1, n)
    texts[-1] = texts[0]
    distinct = sorted(set(captions))
    others = [[c for c in distinct if c != own] for own in captions]
    hits = retrieved(images, texts, captions, candidates=n - 1)
    assert hits.tolist() == by_loop(images, texts, captions, others)
    assert r_precision(images, texts, captions, candidates=n - 1) == pytest.approx(np.mean(hits.tolist()))


def test_identical_features_are_always_retrieved():
    x = features(0, 150)
    assert r_precision(x, x, [str(i) for i in range(150)]) == 1.0


def test_unrelated_features_are_at_chance():
    n, candidates = 4000, 10
    captions = [str(i) for i in range(n)]
    value = r_precision(features(1, n, 32), features(2, n, 32), captions, candidates)
    assert value == pytest.approx(1 / candidates, abs=4 * np.sqrt(0.09 / n))


def test_equal_captions_are_not_distractors():
    captions = ["apple"] * 50 + ["pear", "plum"]
    texts = torch.cat([torch.eye(3)[:1].expand(50, 3), torch.eye(3)[1:]]).double()
    assert r_precision(texts, texts, captions, candidates=3) == 1.0


def test_a_tie_counts_as_missed():
    same = torch.ones(4, 3).double()
    assert r_precision(same, same, list("abcd"), candidates=2) == 0.0


def test_distractors_depend_only_on_the_seed():
    images, texts = features(3, 60), features(4, 60)
    captions = [str(i) for i in range(60)]
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = retrieved(images, texts, captions, 5, seed=1)
    assert torch.equal(first, retrieved(images, texts, captions, 5, seed=1))
    assert any(not torch.equal(first, retrieved(images, texts, captions, 5, seed=s)) for s in range(2, 6))
    assert np.array_equal(state[0], np.random.get_state()[1])
    assert torch.equal(state[1], torch.get_rng_state())


def test_norm_of_the_features_does_not_matter():
    images, texts = features(5, 30), features(6, 30)
    captions = [str(i) for i in range(30)]
    assert torch.equal(
        retrieved(images, texts, captions, 10), retrieved(images * 7, texts * torch.rand(30, 1), captions, 10)
    )


def test_invalid_input_is_refused():
    x = features(7, 5)
    with pytest.raises(BadInput, match=r"2\.\.5"):
        r_precision(x, x, list("abcde"), candidates=6)
    with pytest.raises(BadInput, match=r"2\.\.1"):
        r_precision(x, x, ["a"] * 5, candidates=2)
    with pytest.raises(BadInput, match="one caption for each"):
        r_precision(x, x, list("abcd"), candidates=2)
    with pytest.raises(NonFinite):
        r_precision(x * torch.nan, x, list("abcde"), candidates=2)
