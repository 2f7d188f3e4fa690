"""Edit-friendly noise maps, an Asyrp attribute, a Self-Guidance move and a mask in one edit."""

import numpy as np
import pytest
import torch

from sfumato.api import load
from sfumato.api.composing import compose
from sfumato.changes import move
from sfumato.core.guidance import classifier_free
from sfumato.editing.job import Job
from sfumato.inversion import replay, with_source
from sfumato.shifts.mask import KeepOutsideMask
from tests.delta import delta_of
from tests.tiny import tiny_image

PROMPT = "red cat and dog"


@pytest.fixture(scope="module")
def sd(tiny_sd_folder):
    return load(str(tiny_sd_folder), "cpu")


@pytest.fixture(scope="module")
def inverted(sd):
    return sd.invert(tiny_image(32, 32), PROMPT, method="edit-friendly", steps=8, exact=True)


@pytest.fixture(scope="module")
def delta(sd, tmp_path_factory):
    path = tmp_path_factory.mktemp("delta") / "delta_h.safetensors"
    delta_of(sd.network, (8, 8), 8, factor=20.0).save(path)
    return path


@pytest.fixture(scope="module")
def mask():
    """A mask that allows changes in the left half."""
    found = np.zeros((32, 32), dtype=np.uint8)
    found[:, :16] = 255
    return found


def edit(inverted, methods, **options):
    made = inverted.edit(PROMPT, methods=methods, skip=1, guidance_scale=1.0, residual=False, **options)
    return made.pixels[0].astype(int), made


def test_methods_and_mask_act_together(inverted, delta, mask):
    """Leaving out a method or the mask changes the result; outside the mask the pixels equal the source."""
    attribute, moved = ("asyrp", {"delta": str(delta), "amount": 2.0}), move("cat", right=0.25)
    full, made = edit(inverted, [attribute, moved], mask=mask)
    source = np.asarray(tiny_image(32, 32)).astype(int)
    assert np.array_equal(full[:, 16:], source[:, 16:])
    for fewer in ([attribute], [moved], []):
        assert not np.array_equal(full[:, :16], edit(inverted, fewer, mask=mask)[0][:, :16])
    assert not np.array_equal(full, edit(inverted, [attribute, moved])[0])
    assert [each["method"] for each in made.recipes[0]["methods"]] == ["asyrp", "self-guidance"]


def test_edit_equals_replay_with_the_list_of_shifts(sd, inverted, delta, mask):
    """The last latents equal those of a replay with the shifts of the methods, in their order, and of the mask."""
    entries = [("asyrp", {"delta": str(delta), "amount": 2.0}), move("cat", right=0.25)]
    run = inverted.edit_steps("", methods=entries, skip=1, guidance_scale=1.0, mask=mask)
    *_, last = [progress.state.x_prev for progress in run]
    group = inverted.groups[0]
    composition = compose(
        sd.network, "edit-friendly", inverted.method, inverted.params, entries, (), {"skip": 1, "guidance_scale": 1.0}
    )
    guided = classifier_free(sd.network, None, (1.0,))
    job = Job(guided, group.inversion, group.condition, group.condition, group.condition, 1, True)
    made = [shift for method, params in composition.methods for shift in method.shifts(job, params)]
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    *_, end = replay(
        with_source(guided, group.inversion, group.condition, exact=True),
        group.inversion,
        group.condition,
        skip=1,
        shifts=[*made, KeepOutsideMask(left)],
    )
    torch.testing.assert_close(last, end.x_prev, rtol=1e-5, atol=1e-5)
