"""How many steps diffusers' pipelines run, for what they are given: their own arithmetic, without a network."""

from types import SimpleNamespace

import torch
from diffusers import StableDiffusionImg2ImgPipeline

from sfumato.bench.contenders import _share_before, _share_kept

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
