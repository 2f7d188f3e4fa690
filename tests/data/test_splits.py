import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.data.emoji.attributes import base_of
from sfumato.data.emoji.names import emoji_table
from sfumato.data.emoji.sources import STYLES
from sfumato.data.splits import split_of, split_of_file

TABLE = emoji_table()
BASES = sorted({base_of(key) for key, emoji in TABLE.items() if emoji.group not in ("component", "flags")})


def closed_form(base: str, style: str) -> str:
    """Reference split by comparing hexadecimal digits, without the arithmetic of the tested code."""
    bound = f"{(2**256 - 1) // 20:064x}"
    if hashlib.sha256(base.encode()).hexdigest() <= bound:
        return "test"
    return "cells" if hashlib.sha256(f"{base}/{style}".encode()).hexdigest() <= bound else "train"


@pytest.mark.parametrize("style", STYLES)
def test_splits_of_all_emoji_equal_the_closed_form(style):
    assert [split_of(base, style) for base in BASES] == [closed_form(base, style) for base in BASES]


@given(st.text(min_size=1), st.text(min_size=1))
def test_splits_of_any_text_equal_the_closed_form(base, style):
    assert split_of(base, style) == closed_form(base, style)


@given(st.sampled_from(sorted(TABLE)), st.sampled_from(sorted(STYLES)), st.sampled_from(sorted(STYLES)))
def test_no_base_is_in_test_for_one_style_only(key, style, other):
    base = base_of(key)
    assert (split_of(base, style) == "test") == (split_of(base, other) == "test")


@given(st.sampled_from(sorted(TABLE)))
def test_all_variants_of_a_content_are_in_one_split(key):
    family = [k for k in TABLE if base_of(k) == base_of(key)]
    assert len({split_of(base_of(k), "noto") for k in family}) == 1


def test_shares_are_near_five_per_cent():
    test = [base for base in BASES if split_of(base, "noto") == "test"]
    assert 0.03 < len(test) / len(BASES) < 0.07
    cells = [split_of(base, style) for base in BASES for style in STYLES if base not in test]
    assert 0.04 < cells.count("cells") / len(cells) < 0.06


def test_files_of_a_folder_are_split_by_name():
    splits = [split_of_file(f"{i}.png") for i in range(4000)]
    assert 0.04 < splits.count("test") / 4000 < 0.06
    assert set(splits) == {"train", "test"}, "one in twenty is held out, and nothing besides"
    assert [split_of(f"{i}.png", "") == "test" for i in range(4000)] == [split == "test" for split in splits]
