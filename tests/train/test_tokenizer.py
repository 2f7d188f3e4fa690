"""The tokenizer: every text can be encoded, and captions are recovered by decoding, apart from case and spaces."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.train.tokenizer import Tokens, train_tokenizer

ROOT = Path(__file__).parents[2]
CAPTIONS = [
    "red apple, twemoji",
    "green apple, noto",
    "flag: Côte d’Ivoire, fluent-flat",
    "face with tears of joy, noto",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS * 20, 700, 32)


@pytest.fixture(scope="module")
def small():
    """A tokenizer with a vocabulary of little more than the bytes."""
    return train_tokenizer(CAPTIONS, 600, 32)


@given(text=st.text(max_size=60))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_unknown(small, text):
    """The unknown token is the end token: it must not occur within a text, and a text with letters must have tokens."""
    first, *inside, last = small(text).input_ids
    assert (first, last) == (small.bos_token_id, small.eos_token_id)
    assert "<|" in text or not {small.unk_token_id, small.bos_token_id} & set(inside)
    assert all(0 <= i < len(small) for i in inside)
    assert inside or not any(letter.isalnum() for letter in text)


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions_are_recovered_by_decoding(tokenizer, caption):
    ids = tokenizer(caption).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == caption.lower().replace(" ", "")


def test_frequent_words_are_one_token_and_vocabulary_is_bounded(tokenizer):
    assert len(tokenizer("apple").input_ids) == 3
    assert len(tokenizer) <= 700
    assert tokenizer("Apple").input_ids == tokenizer("apple").input_ids


def test_tokenizer_is_the_same_after_saving_and_retraining(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    again = train_tokenizer(CAPTIONS * 20, 700, 32)
    for caption in [*CAPTIONS, "öäü 🍎 \n x"]:
        assert loaded(caption).input_ids == tokenizer(caption).input_ids == again(caption).input_ids
    assert loaded.model_max_length == 32


@pytest.mark.timeout(1800)
def test_another_process_learns_the_same_tokenizer():
    """Hash tables are ordered at random; merges of equal frequency must not follow that order."""
    script = (
        "import json, sys; from sfumato.train.tokenizer import train_tokenizer\n"
        "captions = json.loads(sys.argv[1])\n"
        "print(json.dumps([train_tokenizer(captions[::-1] * 20, 700, 32).get_vocab() for _ in range(3)]))"
    )
    words = [sys.executable, "-c", script, json.dumps(CAPTIONS)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    expected = train_tokenizer(CAPTIONS * 20, 700, 32).get_vocab()
    assert json.loads(done.stdout.splitlines()[-1]) == [expected] * 3


def test_captions_are_padded_or_truncated_to_the_context(tokenizer):
    ids, mask = Tokens(tokenizer)(["apple", "apple " * 100])
    assert ids.shape == (2, 32)
    assert mask.sum(1).tolist() == [3, 32]
    assert ids[1, -1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id == len(tokenizer) - 1  # CLIP pools at the highest id or the first end token


@pytest.mark.parametrize("known", [(), CAPTIONS[:2], CAPTIONS[1:] * 2, CAPTIONS])
def test_cached_captions_have_the_same_tokens(tokenizer, known):
    asked = [CAPTIONS[0], "an unknown one", CAPTIONS[3], CAPTIONS[0], "", CAPTIONS[1], "another"]
    one, two = Tokens(tokenizer, known)(asked), Tokens(tokenizer)(asked)
    assert all(map(torch.equal, one, two))
    assert one[0][0].tolist()[: one[1][0].sum()] == tokenizer(CAPTIONS[0]).input_ids
    assert Tokens(tokenizer, known)([])[0].shape == (0, 32)


@pytest.mark.parametrize(("vocabulary", "context", "name"), [(513, 32, "vocabulary"), (600, 2, "context")])
def test_invalid_sizes_are_refused(vocabulary, context, name):
    with pytest.raises(BadInput, match=f"network.{name} must be at least"):
        train_tokenizer(CAPTIONS, vocabulary, context)
