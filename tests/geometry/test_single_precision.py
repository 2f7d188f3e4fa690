"""The metric of a half-precision network is computed in float32 from its weights, without keeping a copy of them."""

import weakref

import pytest
import torch

from sfumato.geometry import BottleneckMap, local_basis
from sfumato.geometry import single_precision as scope
from sfumato.models.load import load_model
from tests.geometry.conftest import T, latents
from tests.graphs import tensors_with_graph


def metric_of(folder, dtype, whole):
    """A tangent basis and f of a network loaded in half precision; `whole` converts its weights to float32."""
    network = load_model(folder, "cpu", dtype)
    condition = network.condition(["red cat", "blue dog"]) if network.takes_text else None
    if whole:
        network.unet.float()
    elif condition is not None:
        assert condition.tokens.dtype == dtype
    f, x = BottleneckMap(network, T, condition), latents(network).float()
    return local_basis(f, x, 4, algorithm="krylov"), f(x), f.at(x).h


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [(layout, torch.bfloat16) for layout in ("sd", "sdxl", "ddpm")] + [("sd2", torch.float16)],
)
def test_half_precision_metric_equals_float32_weights(tiny_folder, layout, dtype):
    (found, h, graph_h), (wanted, wanted_h, _) = (metric_of(tiny_folder(layout), dtype, whole) for whole in (0, 1))
    for name in ("h", "values", "u", "v"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert torch.equal(h, wanted_h)
    torch.testing.assert_close(h, graph_h, rtol=1e-4, atol=1e-4)


def test_graph_keeps_no_copy_of_the_weights(tiny_folder, monkeypatch):
    network, copies = load_model(tiny_folder("sd"), "cpu", "bf16"), []

    def noted(each, wide=scope._wide):
        copy = wide(each)
        if copy is not each and isinstance(copy, torch.Tensor):
            copies.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr(scope, "_wide", noted)
    jacobian = BottleneckMap(network, T, network.condition(["red cat"])).at(latents(network, 1).float())
    assert bool(torch.isfinite(jacobian.h).all())  # evaluated, with its graph
    assert len(copies) > 20
    assert not any(copy() is not None for copy in copies)
    assert bool(torch.isfinite(jacobian.vjp(torch.ones(1, 1, jacobian.d_h))).all())


def test_the_graph_of_a_jacobian_is_freed(tiny_folder):
    network = load_model(tiny_folder("sd"), "cpu", "bf16")
    f, x = BottleneckMap(network, T, network.condition(["red cat"])), latents(network, 1).float()
    before = tensors_with_graph()
    assert bool(torch.isfinite(f.at(x).h).all())  # evaluated, with its graph
    assert tensors_with_graph() == before
