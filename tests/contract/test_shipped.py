"""The reconstruction that is promised for the shipped model: 1e-6 with `exact`, 1e-5 by default, in float32."""

import pytest

import sfumato
from sfumato.models.load import list_models
from tests.tiny import tiny_picture


@pytest.fixture(scope="module", params=[model.name for model in list_models()])
def shipped(request):
    """Each bundled model."""
    return sfumato.load(request.param, device="cpu", dtype="fp32")


@pytest.mark.parametrize(("exact", "allowed"), [(True, 1e-6), (False, 1e-5)])
@pytest.mark.parametrize(("steps", "size"), [(20, (64, 64)), (50, (64, 64)), (20, (48, 72))])
def test_reconstruction(shipped, exact, allowed, steps, size):
    inverted = shipped.invert(tiny_picture(*size), "red apple, twemoji", steps=steps, exact=exact)
    assert inverted.reconstruct().report["reconstruction_latent_max_error"] <= allowed
