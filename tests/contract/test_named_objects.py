"""Named objects of a prompt: the tokens of each object's phrase, and the words outside of all phrases."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.core.prompt import Prompt
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.methods.self_guidance import others
from sfumato.methods.several_objects import SeveralObjectsParams
from sfumato.options.named_objects import placed, presence, text_of, words_of
from sfumato.shifts.energy.pairs import AttributeBinding, ObjectOverlap
from sfumato.shifts.energy.presence import Presence
from tests.contract.images import IMAGE


def prompt_of(text):
    """One token per word, after the start token."""
    words = tuple(text.split())
    return Prompt(text, tuple(range(len(words) + 2)), words, tuple((k + 1,) for k in range(len(words))), text)


def objects(text):
    return [part.split() for part in text.split(",")]


PLACES = {
    ("red heart blue heart", "red heart, blue heart"): [[(1,), (2,)], [(3,), (4,)]],
    ("red heart and red ball", "red ball, red heart"): [[(4,), (5,)], [(1,), (2,)]],
    ("heart and red heart", "heart, red heart"): [[(1,)], [(3,), (4,)]],
    ("heart and heart", "heart, Heart"): [[(1,)], [(3,)]],
    ("heart and heart", "heart"): [[(1, 3)]],
    ("a t - shirt", "a t-shirt"): [[(1,), (2, 3, 4)]],
}


@pytest.mark.parametrize(("prompt", "named"), PLACES)
def test_objects_get_the_tokens_of_their_phrases(prompt, named):
    assert placed(prompt_of(prompt), objects(named)) == PLACES[prompt, named]


@pytest.mark.parametrize("named", ["heart, heart", "red heart, heart"])
def test_objects_named_more_often_than_in_prompt_are_refused(named):
    with pytest.raises(BadInput, match='objects names "heart" more often than "red heart"'):
        placed(prompt_of("red heart"), objects(named))


def test_published_presence_excludes_first_and_last_token_of_every_chunk(sd):
    (text,) = sd.network.text_encoders
    prompts, n = (replace(text, chunks=2).read("red cat"),), text.context
    condition = Condition(tokens=torch.zeros(1, 2 * n, 4), prompts=prompts)
    job = SimpleNamespace(network=sd.network, size=(8, 8), condition=condition)
    over = presence(job, objects("red cat"), published=True).over
    assert (over[0] == 0).nonzero()[:, 0].tolist() == [0, n - 1, n, 2 * n - 1]
    text_only = presence(job, objects("red cat"), published=True, normalize_eot=True).over
    words = [place for phrase in ("red", "cat") for place in prompts[0].positions(phrase)]
    assert (text_only[0] == 1).nonzero()[:, 0].tolist() == sorted(words)


def test_objects_with_the_same_noun_have_separate_tokens(sd):
    """Overlap, binding and presence terms use each object's token positions in every prompt of a batch."""
    network, named = sd.network, objects("red heart, blue heart")
    job = SimpleNamespace(network=network, size=(8, 8), condition=network.condition(
        ["red heart blue heart", "a blue heart and a red heart"]
    ))  # fmt: skip
    red, blue = ([p.positions(phrase) for p in job.condition.prompts] for phrase in ("red heart", "blue heart"))
    (guidance,) = METHODS.find("objects").shifts(job, SeveralObjectsParams(objects="red heart, blue heart"))
    terms = {type(term): term for term, _ in guidance.terms}
    nouns = [places(word.target) for word in terms[ObjectOverlap].words]
    assert nouns == [places(weights) for weights in terms[Presence].words]
    for own, phrase, words in zip(nouns, (red, blue), words_of(job, named), strict=True):
        attributes = places(words[0].target)
        assert [a + n for a, n in zip(attributes, own, strict=True)] == [list(each) for each in phrase]
    bound = [term for term, _ in guidance.terms if isinstance(term, AttributeBinding)]
    assert [places(term.word.target) for term in bound] == nouns


def places(weights):
    assert torch.allclose(weights.sum(dim=1), torch.ones(len(weights)))
    return [row.nonzero().flatten().tolist() for row in weights]


def test_other_words_exclude_tokens_of_named_phrases(sd):
    prompt = "red cat and red tree"
    plan = sd.plan(IMAGE, prompt, prompt, methods="self-guidance", steps=4)
    job = plan.edit.batches[0].job
    found = others(job, ["red cat"], None)
    (tokens,) = job.condition.prompts
    assert list(found) == ["red", "tree"]
    elsewhere = [each for each in tokens.positions("red") if each not in tokens.positions("red cat")]
    assert places(found["red"].target) == places(found["red"].source) == [elsewhere]
    assert places(found["tree"].target) == [list(tokens.positions("tree"))]


def test_text_mask_excludes_special_tokens_of_chunks(sd):
    encoder = replace(sd.network.text_encoders[0], chunks=2)
    prompt = encoder.read(" ".join(["cat"] * (encoder.context + 3)))
    (text,) = text_of(Condition(tokens=torch.zeros(1, 2 * encoder.context, 4), prompts=(prompt,)))
    assert len(prompt.ids) > encoder.context
    special = set(encoder.tokenizer.all_special_ids)
    assert text.nonzero().flatten().tolist() == [k for k, each in enumerate(prompt.ids) if each not in special]
