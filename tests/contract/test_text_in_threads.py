"""Encoding prompts with one model in several threads: only the caches and the tokenizer are locked."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import sfumato
from sfumato.api import Model
from sfumato.api.loaded import KEPT
from sfumato.metrics.evaluator import SHIPPED

THREADS, WAIT = 2, 20
SIZE = (32, 32)


def together(work: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of all functions, each called in its own thread; errors are raised."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [each.result(2 * WAIT) for each in [pool.submit(one) for one in work]]


@pytest.fixture
def model(tiny_sd_folder):
    """A tiny model with the bundled dual encoder."""
    return Model(sfumato.load(str(tiny_sd_folder), "cpu").network, SHIPPED.parent)


def beside(monkeypatch, owner, name):
    """Make a function wait until another thread is inside it, too."""
    function, inside = getattr(owner, name), threading.Barrier(THREADS)

    def wait(*given, **options):
        inside.wait(WAIT)
        return function(*given, **options)

    monkeypatch.setattr(owner, name, wait)


def test_text_encoders_are_evaluated_outside_the_lock(model, monkeypatch):
    alone = [model.network.condition([prompt], size=SIZE) for prompt in ("red cat", "green dog")]
    beside(monkeypatch, model.network, "text_condition")
    found = together([lambda: model.condition(["red cat"], SIZE), lambda: model.condition(["green dog"], SIZE)])
    for each, expected in zip(found, alone, strict=True):
        assert torch.equal(each.tokens, expected.tokens)
    monkeypatch.undo()
    assert model.condition(["red cat"], SIZE) is found[0]
    assert model.condition(["green dog"], SIZE) is found[1]


def test_threads_share_the_cached_prompts(model, monkeypatch):
    beside(monkeypatch, model.network, "text_condition")
    first, second = together([lambda: model.condition(["red cat"], SIZE)] * 2)
    assert first is second
    monkeypatch.undo()
    for n in range(KEPT):
        model.condition([f"cat {n}"], SIZE)
    assert model.condition(["red cat"], SIZE) is not first, "the cache is bounded"


def test_the_dual_encoder_is_evaluated_outside_the_lock(model, monkeypatch):
    texts = ["red cat"], ["a green dog and a tree", "blue heart"]
    alone = [model.text_features(each) for each in texts]
    beside(monkeypatch, model.dual_encoder.model, "get_text_features")
    for _ in range(3):
        for found, expected in zip(together([lambda e=e: model.text_features(e) for e in texts]), alone, strict=True):
            assert torch.equal(found, expected)


def test_dual_encoder_tokenizer_calls_do_not_overlap(model, monkeypatch):
    """Every call sets the padding of the tokenizer, which a concurrent call would change."""
    tokenizer, calling = model.dual_encoder.tokenizer, threading.Lock()
    function = type(tokenizer).__call__

    def called(own, *texts, **options):
        assert own is not tokenizer or calling.acquire(blocking=False), "two threads are inside"
        try:
            return function(own, *texts, **options)
        finally:
            if own is tokenizer:
                calling.release()

    monkeypatch.setattr(type(tokenizer), "__call__", called)

    def often():
        return [model.text_features(["red cat", "dog"]) for _ in range(10)]

    first, second = together([often] * 2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
