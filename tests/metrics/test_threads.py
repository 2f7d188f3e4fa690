"""Threads that share one evaluator get exactly the scores of a single thread."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch

from sfumato.metrics import Evaluator, VisionEncoder
from tests.metrics import encoders
from tests.metrics.encoders import image_pair
from tests.metrics.test_text import save_clip

THREADS, TIMES, WAIT = 2, 40, 120


def together(work: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run each function in its own thread and return all results; errors are raised."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [each.result(WAIT) for each in [pool.submit(one) for one in work]]


@pytest.mark.parametrize("kind", list(encoders.KINDS))
def test_keys_belong_to_the_images_of_their_thread(kind, tmp_path):
    encoders.save(kind, tmp_path)
    encoder, given = VisionEncoder(tmp_path), [2 * each - 1 for each in image_pair(0)]
    alone = [encoder.keys(x) for x in given]
    begun = Barrier(len(given))

    def wait_for_the_other(*_: Any) -> None:
        begun.wait(WAIT)

    encoder.model.register_forward_pre_hook(wait_for_the_other)  # both have attached their hooks before one evaluates
    for found, keys in zip(together([lambda x=x: encoder.keys(x) for x in given]), alone, strict=True):
        assert torch.equal(found, keys)
    assert not encoder._last_keys[0]._forward_hooks


def test_scores_equal_those_of_a_single_thread(tmp_path):
    save_clip(tmp_path)
    evaluator = Evaluator.load(tmp_path)

    def say(n):
        (a, b), texts = image_pair(n), [" ".join(["red cat"] * (k + n + 1)) for k in range(3)]
        return evaluator(a, b, target=a.flip(3), source_texts=texts, target_texts=[f"{text} dog" for text in texts])

    alone = [say(n) for n in range(THREADS)]
    begun = Barrier(THREADS)

    def often(n):
        begun.wait(WAIT)
        return [say(n) for _ in range(TIMES)]

    for found, expected in zip(together([lambda n=n: often(n) for n in range(THREADS)]), alone, strict=True):
        for scores in found:
            assert scores.keys() == expected.keys()
            assert all(torch.equal(scores[name], expected[name]) for name in expected)
