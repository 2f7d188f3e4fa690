"""Directional similarity in closed form."""

import math

import numpy as np
import pytest
import torch

from sfumato.errors import BadInput
from sfumato.metrics import directional_similarity


def features(seed, b=4, d=6):
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((b, d))).float()
    return x / x.norm(dim=-1, keepdim=True)


def test_is_the_cosine_of_the_two_changes():
    before, after, given, wanted = (features(seed) for seed in range(4))
    found = directional_similarity(before, after, given, wanted)
    for i in range(4):
        dI, dT = (after[i] - before[i]).double().numpy(), (wanted[i] - given[i]).double().numpy()
        expected = dI @ dT / math.sqrt((dI @ dI) * (dT @ dT))
        assert found[i].item() == pytest.approx(expected, rel=1e-6)
        alone = directional_similarity(*(x[i : i + 1] for x in (before, after, given, wanted)))
        assert alone.item() == pytest.approx(found[i].item(), rel=1e-12)


def test_is_one_along_and_minus_one_against_the_text():
    given, wanted = features(5), features(6)
    assert directional_similarity(given, wanted, given, wanted).numpy() == pytest.approx(1)
    assert directional_similarity(wanted, given, given, wanted).numpy() == pytest.approx(-1)


def test_unchanged_image_scores_zero_and_equal_texts_are_refused():
    before, given, wanted = (features(seed) for seed in (7, 8, 9))
    assert directional_similarity(before, before, given, wanted).tolist() == [0] * 4
    with pytest.raises(BadInput, match="differ"):
        directional_similarity(before, wanted, given, given)
