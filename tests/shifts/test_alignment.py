"""Prompts are aligned word by word through their token ids."""

from dataclasses import replace

import pytest
import torch
from transformers import CLIPTextModel

from sfumato.models.text import TextEncoder
from sfumato.shifts.alignment import align, token_weights
from tests.tiny import text_config, tiny_tokenizer

TOKENS = 16


@pytest.fixture(scope="module")
def read():
    """The tiny tokenizer has tokens for colours and animals; it splits other words into letters."""
    return encoder().read


def encoder():
    tokenizer = tiny_tokenizer()
    return TextEncoder(tokenizer, CLIPTextModel(text_config(tokenizer)))


@pytest.fixture(scope="module")
def pairs(read):
    """{(source position, target position): weight} between the words of two prompts, and which words are new."""

    def found(source, target, swap=True):
        alignment = align([read(source)], [read(target)], TOKENS, swap=swap)
        mix, own = alignment.mix[0], alignment.own[0]
        assert torch.equal(own, (mix.sum(0) == 0).float()), "a token has its own map or one from the source"
        assert mix[0, 0] == 1, "start to start"
        ends = len(read(source).ids) - 1, len(read(target).ids) - 1
        assert all(mix[ends[0] + k, ends[1] + k] == 1 for k in range(TOKENS - max(ends))), "end to end, padding too"
        inner = mix[1 : ends[0], 1 : ends[1]]
        rest = float(mix.sum() - inner.sum())
        assert rest == pytest.approx(1 + TOKENS - max(ends)), "words only to words"
        carried = {(i + 1, j + 1): round(float(inner[i, j]), 4) for i, j in inner.nonzero().tolist()}
        return carried, own[1 : ends[1]].tolist()

    return found


def test_equal_prompts_give_the_identity(read):
    alignment = align([read("red cat")], [read("Red  cat")], TOKENS, swap=True)
    assert torch.equal(alignment.mix[0], torch.eye(TOKENS))
    assert not alignment.own.any()


def test_swapped_word_uses_the_map_of_the_source_word(pairs):
    assert pairs("red cat", "red dog") == ({(1, 1): 1, (2, 2): 1}, [0, 0])
    assert pairs("red cat", "red dog", swap=False) == ({(1, 1): 1}, [0, 1])


def test_added_and_dropped_words(pairs):
    assert pairs("red cat", "blue red star cat") == ({(1, 2): 1, (2, 4): 1}, [1, 0, 1, 0])
    assert pairs("blue red star cat", "red cat") == ({(2, 1): 1, (4, 2): 1}, [0, 0])


def test_words_of_several_tokens(pairs):
    """ "kitten" has six tokens, "cat" one."""
    spread, _ = pairs("cat", "kitten")
    assert spread == {(1, j): round(1 / 6, 4) for j in range(1, 7)}
    gathered, _ = pairs("kitten", "cat")
    assert gathered == {(i, 1): 1 for i in range(1, 7)}
    assert pairs("kitten", "mitten")[0] == {(i, i): 1 for i in range(1, 7)}


def test_words_with_common_letters_are_not_aligned(pairs):
    assert pairs("red kitten", "red mitten", swap=False) == ({(1, 1): 1}, [0, 1, 1, 1, 1, 1, 1])


def test_several_swapped_words_in_a_row(pairs):
    assert pairs("red cat", "blue dog") == ({(1, 1): 1, (2, 2): 1}, [0, 0])
    uneven, own = pairs("red", "star blue")
    assert (uneven, own) == ({(1, 1): 0.5, (1, 2): 0.5}, [0, 0])


def test_empty_prompts_have_no_aligned_words(pairs):
    assert pairs("", "red cat") == ({}, [1, 1])
    assert pairs("red cat", "") == ({}, [])


def test_special_tokens_are_aligned_within_every_chunk():
    """The source has two tokens and the target five in the second chunk; each ends with an end token and padding."""
    text = replace(encoder(), chunks=2)
    n, inner = text.context, text.context - 2
    source, target = (text.read(" ".join(["cat"] * (inner + more))) for more in (2, 5))
    mix = align([source], [target], 2 * n, swap=True).mix[0]
    assert torch.equal(mix[:n, :n], torch.eye(n)), "both first chunks are full"
    second = mix[n:, n:]
    assert torch.equal(second[:3, :3], torch.eye(3)), "start and words"
    assert torch.equal(second[3:, 6:], torch.eye(n - 3)[:, : n - 6]), "end and padding"
    assert not second[:3, 3:].any()
    assert not mix[:n, n:].any()


def test_padding_of_unused_chunks_is_aligned():
    text = replace(encoder(), chunks=2)
    mix = align([text.read("cat")], [text.read("red star cat")], 2 * text.context, swap=True).mix[0]
    assert torch.equal(mix[text.context :, text.context :], torch.eye(text.context)), "chunks of the empty prompt"
    assert not mix[: text.context, text.context :].any()


def test_token_weights_are_set_at_the_words(read):
    prompts = [read("red cat"), read("cat, red kitten")]
    weights = token_weights(prompts, ["red", "kitten"], [2.0, 0.5], TOKENS, 1.0)
    expected = torch.ones(2, TOKENS)
    expected[0, 1] = expected[1, 3] = 2
    expected[1, 4:10] = 0.5
    assert torch.equal(weights, expected)
