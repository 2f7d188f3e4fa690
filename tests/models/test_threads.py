"""Results of several threads that share one model equal those of sequential calls, bit for bit."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers.utils import logging

import sfumato
from sfumato.editing.registry import METHODS
from sfumato.geometry.forward_mode import differentiable
from sfumato.geometry.jacobian import BottleneckMap
from sfumato.libraries import quiet
from sfumato.models.load import load_model
from sfumato.models.taps import Record, Replace
from tests.tiny import tiny_image

pytestmark = pytest.mark.slow

IMAGE, OTHER = tiny_image(32, 32), tiny_image(24, 32, seed=1)
THREADS, JOBS, EACH = 8, 25, 10
WAIT = 600

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "edit-friendly": [
        {"invert": {"batch": 2}},
        {"edit": {"mask_words": "cat,dog"}},
        {"edit": {"mask_difference": True, "mask_threshold": 1.02}},
    ],
    "ddim": [{}, {"invert": {"refine": 2}}],
    "plug-and-play": [{}, {"invert": {"exact": True}}],
    "prompt-to-prompt": [{}, {"invert": {"inversion": "native-ddpm"}}, {"edit": {"negative_prompt": "tree"}}],
    "pix2pix-zero": [{}, {"invert": {"exact": True}}],
    "pullback": [{"edit": {"rank": 2}}, {"edit": {"rank": 2, "shots": 2}}, {"edit": {"kind": "random"}}],
    "shift": [{"edit": {"right": 1}}],
}
"""Options of a method in addition to its defaults; one job for each entry."""


def together(work: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run every function in its own thread, all started at once; returns the results, or raises the first error."""
    results: list[Any] = [None] * len(work)
    start = threading.Barrier(len(work))

    def run(n: int) -> None:
        start.wait(WAIT)
        try:
            results[n] = work[n]()
        except BaseException as error:
            results[n] = error

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def jobs() -> list[tuple[str, dict[str, Any], int]]:
    """A method, its options and a seed: every method with each of its options, and again with other seeds."""
    each = [(name, options) for name in METHODS for options in OPTIONS.get(name, [{}])]
    return [(*each[n % len(each)], n // len(each)) for n in range(JOBS)]


def edit(model: sfumato.Model, job: tuple[str, dict[str, Any], int]) -> dict[str, Any]:
    """The latents, pixels and evaluation counts of an inversion and an edit."""
    name, options, seed = job
    image = OTHER if seed else IMAGE
    invert = {"steps": 3, "seed": seed} | options.get("invert", {})
    inverted = model.invert(image, "red cat", method=name, **invert)
    edited = inverted.edit("red dog", **{"guidance_scale": 3.0} | options.get("edit", {}))
    counts = [each.report["network_evaluations"] for each in (inverted, edited)]
    return {"x": inverted.groups[0].inversion.x, "pixels": edited.pixels[0], "counts": counts}


@pytest.fixture
def model(tiny_sd_folder):
    return sfumato.load(str(tiny_sd_folder), "cpu")


@pytest.fixture
def asked(model):
    x = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    return x, 500, model.network.condition(["red apple", ""])


def hooks(model):
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.network.unet.modules())


def test_concurrent_edits_of_all_methods_equal_sequential_edits(model):
    wanted, calls = [], [0]
    for job in jobs():
        wanted.append(edit(model, job))
        calls.append(model.network.count.calls)
    assert {job[0] for job in jobs()} == set(METHODS)
    orders = [[(first * 3 + n) % JOBS for n in range(EACH)] for first in range(THREADS)]
    times = Counter(n for order in orders for n in order)
    assert min(times[n] for n in range(JOBS)) >= 3, "every job beside several others"

    differ = []
    work = [lambda order=order: [(n, edit(model, jobs()[n])) for n in order] for order in orders]
    for found in together(work):
        for n, result in found:
            right = wanted[n]
            equal = torch.equal(result["x"], right["x"]) and np.array_equal(result["pixels"], right["pixels"])
            if not equal or result["counts"] != right["counts"]:
                differ.append(jobs()[n])
    assert differ == []
    assert model.network.count.calls == calls[-1] + sum(times[n] * (calls[n + 1] - calls[n]) for n in range(JOBS))
    assert hooks(model) == 0


def test_tap_acts_only_in_its_own_thread(model, asked):
    network = model.network
    plain, h = network.predict(*asked), network.bottleneck(*asked)
    inside, done = threading.Event(), threading.Event()

    def change(output: torch.Tensor) -> torch.Tensor:
        inside.set()
        assert done.wait(WAIT)
        return torch.zeros_like(output)

    def tapped() -> torch.Tensor:
        return network.predict(*asked, taps=[Record("conv_in"), Replace("mid_block", change)])

    def beside() -> list[torch.Tensor]:
        assert inside.wait(WAIT)
        record = Record("mid_block")
        found = [network.predict(*asked), network.bottleneck(*asked), network.predict(*asked, taps=[record])]
        done.set()
        return [*found, record.output]

    changed, others = together([tapped, beside])
    for found, right in zip(others, (plain, h, plain, h), strict=True):
        assert torch.equal(found, right)
    assert torch.equal(changed, network.predict(*asked, taps=[Replace("mid_block", torch.zeros_like)]))
    assert hooks(model) == 0


def test_a_scope_counts_the_evaluations_of_its_thread(model, asked):
    def counted(times: int) -> tuple[int, int]:
        with model.network.counting() as count:
            for _ in range(times):
                model.network.predict(*asked)
        return count.calls, count.samples

    assert together([lambda: counted(2), lambda: counted(5)]) == [(2, 4), (5, 10)]
    assert model.network.count.calls == 7


def test_forward_mode_patches_stay_in_their_thread(model, asked):
    plain = model.network.predict(*asked)
    with differentiable():
        inside = model.network.predict(*asked)
        (beside,) = together([lambda: model.network.predict(*asked)])
    assert torch.equal(beside, plain)
    assert not torch.equal(inside, plain), "fused attention rounds otherwise, or this test shows nothing"


def test_forward_mode_in_several_threads(model, asked):
    f = BottleneckMap(model.network, 500, asked[2])
    v = torch.randn(2, 3, *asked[0].shape[1:], generator=torch.Generator().manual_seed(1))
    wanted = f.at(asked[0]).jvp(v)
    for _ in range(3):
        for found in together([lambda: f.at(asked[0]).jvp(v)] * 4):
            assert torch.equal(found, wanted)


def test_prompts_in_several_threads(model):
    prompts = ["red cat", "a very long blue dog and a green tree beside it"]
    wanted = [model.network.condition(prompt) for prompt in prompts]

    def many(n: int) -> bool:
        found = [model.network.condition(prompts[n % 2]) for _ in range(40)]
        return all(torch.equal(each.tokens, wanted[n % 2].tokens) for each in found)

    assert together([lambda n=n: many(n) for n in range(4)]) == [True] * 4


@pytest.mark.usefixtures("read_every_time")
def test_concurrent_loading_restores_library_logging(tiny_sd_folder):
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    first, second = threading.Event(), threading.Event()

    def shorter() -> None:
        with quiet():
            first.set()
            second.wait(0.2)

    def longer() -> None:
        first.wait(WAIT)
        with quiet():
            second.set()

    together([shorter, longer])
    networks = together([lambda: load_model(tiny_sd_folder, "cpu")] * 3)
    assert len({network.fingerprint() for network in networks}) == 1
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
