"""How many steps diffusers' pipelines run, for what they are given: their own arithmetic, without a network."""

from types import SimpleNamespace

import torch
from diffusers import StableDiffusionImg2ImgPipeline

from sfumato.bench.contenders import LeditsPP, Task, _share_before, _share_kept
from tests.tiny import tiny_picture

SIZE = 32
ALL = [(steps, skip) for steps in range(1, 61) for skip in range(steps)]


def test_image_to_image_runs_the_steps_that_are_not_skipped():
    for steps, skip in ALL:
        strength = _share_kept(steps, skip)
        assert 0 < strength <= 1  # diffusers refuses others
        pipe = SimpleNamespace(scheduler=SimpleNamespace(timesteps=torch.arange(steps), order=1))
        kept, count = StableDiffusionImg2ImgPipeline.get_timesteps(pipe, steps, strength, "cpu")
        assert (len(kept), count) == (steps - skip, steps - skip), (steps, skip)


def test_ledits_has_as_many_steps_in_all_as_were_asked_for():
    for steps, skip in ALL:
        kept = steps - skip
        assert int(kept * (1 + _share_before(steps, skip))) == steps, (steps, skip)


def test_ledits_inverts_from_the_source_prompt_to_the_empty_one(tiny_sd_folder):
    """What docs/metrics.md says of diffusers; the edit has the empty prompt and the target in the right order."""
    contender = LeditsPP(Task(tiny_sd_folder, tiny_picture(SIZE, SIZE), "red apple", "green apple", 3, 1, 1.0, 2.0))
    seen = []
    contender.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    contender.invert()
    source, target, empty = (
        contender.pipe.encode_prompt("cpu", 1, True, editing_prompt=text)[0]
        for text in ("red apple", "green apple", "")
    )
    assert len(seen) == 2 * 2
    assert all(torch.equal(found, wanted) for found, wanted in zip(seen, [source, empty] * 2, strict=True))
    seen.clear()
    contender.edit()
    assert all(torch.equal(found, torch.cat([empty, target])) for found in seen)
