"""Words of a prompt and the positions of their tokens."""

from random import Random

import pytest

from sfumato.core.condition import Condition
from sfumato.core.prompt import Prompt
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.text import read


@pytest.fixture(scope="module")
def model(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


def prompt(model, text):
    return model.condition(text).prompts[0]


def test_words_and_their_tokens(model):
    """The tiny tokenizer has one token for "red" and for "cat"; other words are split into bytes."""
    found = prompt(model, "Red  kitten, cat")
    assert found.words == ("Red", "kitten", ",", "cat")
    assert found.places == ((1,), (2, 3, 4, 5, 6, 7), (8,), (9,))
    assert len(found.ids) == 11
    assert found.positions("red") == (1,)
    assert found.positions("KITTEN") == (2, 3, 4, 5, 6, 7)
    assert found.positions("kitten, cat") == (2, 3, 4, 5, 6, 7, 8, 9)


def test_positions_of_all_occurrences_of_whole_words(model):
    found = prompt(model, "red cat red dog")
    assert found.positions("red") == (1, 3)
    assert found.positions("red dog") == (3, 4)
    assert not found.has("ca")
    assert not found.has("dog red")
    assert not found.has("")


def test_occurrences_equal_a_search_of_all_rows_of_words():
    """Words of few letters, also empty ones, so that phrases begin and end inside and between words."""
    random = Random(0)
    for _ in range(300):
        words = tuple("".join(random.choices("aB", k=random.randrange(4))) for _ in range(random.randrange(9)))
        phrase = "".join(random.choices("Ab ", k=random.randrange(6)))
        wanted = phrase.replace(" ", "").lower()
        rows = [range(i, j) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
        expected = [row for row in rows if wanted and "".join(words[k] for k in row).lower() == wanted]
        assert Prompt("", (), words, ((),) * len(words), "").occurrences(phrase) == expected


def test_words_of_a_long_prompt_are_found_at_once():
    words = tuple(f"w{k}" for k in range(3000))
    assert Prompt("", (), words, ((),) * 3000, "").occurrences("W5 w6") == [range(5, 7)]


def test_missing_word_error_lists_the_words(model):
    with pytest.raises(BadInput, match='"tree" is not in the prompt "red cat": its words are "red", "cat"'):
        prompt(model, "red cat").positions("tree")


@pytest.mark.parametrize("text", ["", "<|endoftext|>"])
def test_prompts_without_words(model, text):
    assert prompt(model, text).words == ()


def test_rows_keep_their_prompts(model):
    condition = model.condition(["red cat", "dog"])
    texts = [[each.text for each in rows.prompts] for rows in (condition[1], condition.repeat(2), condition[[0, 0]])]
    assert texts == [["dog"], ["red cat", "dog", "red cat", "dog"], ["red cat", "red cat"]]
    joined = Condition.cat([condition[1], condition])
    assert [each.text for each in joined.prompts] == ["dog", "red cat", "dog"]
    assert Condition.cat([condition, Condition(tokens=condition.tokens)]).prompts == ()


def test_text_encoders_must_agree_on_the_tokens(tiny_sdxl_folder):
    model = load_model(tiny_sdxl_folder, "cpu")
    assert model.condition("red kitten").prompts[0].positions("kitten") == (2, 3, 4, 5, 6, 7)
    model.text_encoders[1].tokenizer.add_tokens("kit")
    assert read(model.text_encoders, ["red cat"])[0].words == ("red", "cat")
    assert read(model.text_encoders, ["red kitten"]) == ()
