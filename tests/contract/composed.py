"""Helpers for the tests of methods: images, prompts, options of a short run and of methods, a user-defined shift."""

import pytest

from sfumato.core.guidance import classifier_free
from sfumato.core.shift import Shift
from sfumato.editing.job import Job
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from tests.delta import delta_of
from tests.style.small import save_parasol
from tests.tiny import tiny_image

IMAGES = [tiny_image(32, 32), tiny_image(32, 32, seed=1)]
SOURCE, TARGET = ["red cat", "green cat"], ["blue cat", "red cat"]
STEPS = 4
RUN = {"skip": 1, "guidance_scale": 3.0}
ACTING = {
    "attend-and-excite": {"objects": "cat", "thresholds": ""},
    "objects": {"objects": "cat"},
    "self-guidance": {"move": "cat: 0.2, 0"},
    "shift": {"right": 1},
}
"""Options for methods that have no effect by default (`Params.needs`); for those that need a file see `acting`."""

CHANGING = ACTING | {
    "colour": {"amount": 0.3},
    "diffuseit": {"resample": 2, "crops": 1},
    "pix2pix-zero": {"cross_attention_guidance_amount": 1.0},
    "prompt-to-prompt": {"blend": "cat"},
    "pullback": {"gamma": 0.5, "boost": 0.5},
}
"""Options with which each method changes an edit of few steps by a small network, without those that need a file."""


def acting(name, network, folder, steps, *, cells=(8, 8), factor=1.0):
    """Options with which a method acts on a network; {} for methods that act by default.

    Files of random weights are saved in `folder`, those of asyrp for runs of `steps` steps with latents of the size
    `cells` and with an effect that `factor` scales.
    """
    if name == "asyrp":
        delta_of(network, cells, steps, factor=factor).save(folder / "delta_h.safetensors")
        return {"delta": str(folder / "delta_h.safetensors")}
    if name == "parasol" and network.takes_text:
        return {"style_text": "flat", **save_parasol(folder / "parasol", network)}
    return ACTING.get(name, {})


def maker(kind):
    """A method that uses this inversion by default."""
    return METHODS.get(kind) or next(method for method in METHODS.values() if method.inversion == kind)


def refused(sd, message, work):
    """Check that `work` raises BadInput with a message of one line, before any network evaluation."""
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=message) as caught:
        work()
    assert "\n" not in str(caught.value)
    assert sd.network.count.calls == calls


def job_of(sd, inverted, prompt, skip=RUN["skip"]):
    """The job that an edit of the first image runs."""
    network, group = sd.network, inverted.groups[0]
    guided = classifier_free(network, network.condition([""]), (RUN["guidance_scale"],))
    target = network.condition([prompt])
    return Job(guided, group.inversion.rows([0]), group.condition[[0]], target, target, skip)


class Own(Shift):
    """A user-defined shift: adds a constant to P_t and records the noise maps that it receives."""

    def __init__(self, amount=0.3):
        self.amount, self.seen = amount, []

    def prediction(self, state, prediction):
        return prediction + self.amount

    def noise_map(self, state, z):
        self.seen.append(z)
        return z
