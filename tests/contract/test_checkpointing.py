"""Gradient checkpointing: every edit by methods with energies is the same with and without it."""

from contextlib import contextmanager
from itertools import combinations

import pytest
import torch

from sfumato.editing.registry import METHODS
from tests.contract.composed import RUN, TARGET, refused
from tests.contract.test_composition import EXCLUSIVE, named, trained  # noqa: F401 - the fixture of their files

pytestmark = pytest.mark.slow
WITH_GRADIENTS = ("attend-and-excite", "diffuseit", "objects", "pix2pix-zero", "self-guidance")
KIND = "edit-friendly"
SETS = [
    names
    for names in [*((name,) for name in WITH_GRADIENTS), *combinations(METHODS, 2)]
    if set(names) & set(WITH_GRADIENTS)
    and set(names) not in EXCLUSIVE
    and "pullback" not in names
    and all(KIND in METHODS.find(name).accepts for name in names)
]


@pytest.fixture
def checkpointing(sd):
    """A context manager with gradient checkpointing."""

    @contextmanager
    def on():
        sd.network.unet.enable_gradient_checkpointing()
        try:
            yield
        finally:
            sd.network.unet.disable_gradient_checkpointing()

    return on


def latents(inverted, names):
    return [step.state.x_prev for step in inverted.edit_steps(TARGET[0], methods=named(names), **RUN)]


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_edits_are_equal_with_gradient_checkpointing(inverted_by, checkpointing, names):
    inverted = inverted_by(KIND, (0,))
    plain = latents(inverted, names)
    with checkpointing():
        found = latents(inverted, names)
    assert all(map(torch.equal, plain, found))


@pytest.mark.parametrize("kind", ["pullback", "random"])
def test_pullback_is_refused_with_gradient_checkpointing(sd, inverted_by, checkpointing, kind):
    named = [("pullback", {"kind": kind})]
    with checkpointing():
        refused(
            sd, "disable_gradient_checkpointing", lambda: inverted_by(KIND, (0,)).edit_steps("", methods=named, **RUN)
        )
