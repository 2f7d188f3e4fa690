"""`Condition`: indexing, repeating and concatenating rows act on all parts."""

import jaxtyping
import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.errors import BadInput


@pytest.fixture
def condition():
    return Condition(
        tokens=torch.arange(3.0)[:, None, None].repeat(1, 5, 2),
        pooled=torch.arange(3.0)[:, None],
        added=torch.arange(3.0)[:, None].repeat(1, 6),
        maps=torch.arange(3.0)[:, None, None, None].repeat(1, 1, 4, 4),
        labels=torch.arange(3),
        token_mask=torch.ones(3, 5, dtype=torch.bool),
    )


def rows(condition):
    parts = [condition.tokens, condition.pooled, condition.added, condition.maps, condition.labels]
    found = {tuple(part.reshape(len(part), -1)[:, 0].tolist()) for part in parts}
    assert len(condition) == condition.token_mask.shape[0] == len(next(iter(found)))
    assert len(found) == 1
    return list(found.pop())


def test_indexing_repeating_and_concatenating_rows(condition):
    assert rows(condition[1]) == [1]
    assert rows(condition[-1]) == [2]
    assert rows(condition[1:]) == [1, 2]
    assert rows(condition[[2, 0, 0]]) == [2, 0, 0]
    assert rows(condition[torch.tensor([1, 1])]) == [1, 1]
    assert rows(condition[torch.tensor([True, False, True])]) == [0, 2]
    assert rows(condition.repeat(2)) == [0, 1, 2, 0, 1, 2]
    assert rows(Condition.cat([condition[1:], condition[0]])) == [1, 2, 0]
    assert rows(condition.to("cpu")) == [0, 1, 2]


def test_condition_without_parts_has_rows():
    null = Condition(rows=3)
    assert [len(each) for each in (null, null[0], null[[0, 1]], null.repeat(2), Condition.cat([null, null[0]]))] == [
        3, 1, 2, 6, 4,
    ]  # fmt: skip


def test_row_out_of_range_raises_index_error(condition):
    with pytest.raises(IndexError):
        condition[3]


def test_incompatible_parts_are_rejected(condition):
    for parts in (
        {"pooled": torch.zeros(3, 2)},
        {"labels": torch.zeros(3, dtype=torch.int64)},
        {"labels": torch.zeros(2, dtype=torch.bool)},
    ):
        with pytest.raises((BadInput, jaxtyping.TypeCheckError)):
            Condition(tokens=torch.zeros(2, 5, 2), **parts)
    with pytest.raises(BadInput, match="same number of rows"):
        Condition(tokens=torch.zeros(2, 5, 2), rows=3)
    with pytest.raises(BadInput, match="same number of rows"):
        Condition()
    for other in (Condition(tokens=torch.zeros(1, 5, 2)), Condition(rows=1)):
        with pytest.raises(BadInput, match="can be concatenated"):
            Condition.cat([condition, other])
    with pytest.raises(BadInput, match="can be concatenated"):
        Condition.cat([Condition(tokens=torch.zeros(1, 5, 2)), Condition(tokens=torch.zeros(1, 6, 2))])
    with pytest.raises(BadInput, match="can be concatenated"):
        Condition.cat([])
