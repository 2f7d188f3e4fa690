"""The number of steps that diffusers' pipelines run for given parameters, and the prompts that LEDITS++ uses."""

from types import SimpleNamespace

import torch
from diffusers import StableDiffusionImg2ImgPipeline

from sfumato.bench.contenders import LeditsPP, Task, _share_before, _share_kept
from tests.tiny import tiny_image

SIZE = 32
ALL = [(steps, skip) for steps in range(1, 61) for skip in range(steps)]


def test_image_to_image_leaves_out_the_skipped_steps():
    for steps, skip in ALL:
        strength = _share_kept(steps, skip)
        assert 0 < strength <= 1  # diffusers refuses others
        pipe = SimpleNamespace(scheduler=SimpleNamespace(timesteps=torch.arange(steps), order=1))
        kept, count = StableDiffusionImg2ImgPipeline.get_timesteps(pipe, steps, strength, "cpu")
        assert (len(kept), count) == (steps - skip, steps - skip), (steps, skip)


def test_ledits_total_steps_equal_the_requested_steps():
    for steps, skip in ALL:
        kept = steps - skip
        assert int(kept * (1 + _share_before(steps, skip))) == steps, (steps, skip)


def test_ledits_inverts_with_source_and_empty_prompt(tiny_sd_folder):
    """As described in docs/metrics.md; the edit uses the empty prompt and the target prompt, in this order."""
    contender = LeditsPP(Task(tiny_sd_folder, tiny_image(SIZE, SIZE), "red apple", "green apple", 3, 1, 1.0, 2.0))
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
