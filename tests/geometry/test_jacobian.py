"""Products with the Jacobian of the bottleneck, against finite differences and a dense Jacobian."""

import pytest
import torch

from sfumato.errors import BadInput, NonFinite
from sfumato.geometry import BottleneckMap, Passes, counting_passes, pullback_norm
from sfumato.models.load import load_model
from tests.geometry.conftest import T, condition, latents


def vectors(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def dense(f, x):
    """[b, d, c, h, w] by torch's own reverse mode, one entry of h at a time."""
    full = torch.autograd.functional.jacobian(f.evaluate, x)
    return torch.stack([full[i, :, i] for i in range(len(x))])


@pytest.mark.parametrize("pool", ["sum", None])
def test_products_equal_the_dense_jacobian(network, pool):
    height, width = (8, 12) if pool else (4, 8)
    x = latents(network, height=height, width=width)
    f = BottleneckMap(network, T, condition(network), pool=pool, chunk=6)
    jacobian = f.at(x)
    matrix = dense(f, x)
    v, u = vectors(2, 5, *x.shape[1:]), vectors(2, 5, jacobian.d_h)
    torch.testing.assert_close(jacobian.jvp(v), torch.einsum("bdchw,bnchw->bnd", matrix, v), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(jacobian.vjp(u), torch.einsum("bdchw,bnd->bnchw", matrix, u), rtol=1e-9, atol=1e-9)
    assert torch.Size(f.h_shape(height, width)).numel() == jacobian.d_h == matrix.shape[1]
    torch.testing.assert_close(pullback_norm(f, x, v), jacobian.jvp(v).norm(dim=-1))


def test_jvp_equals_finite_differences(network):
    x = latents(network)
    f = BottleneckMap(network, T, condition(network))
    v = vectors(2, 1, *x.shape[1:])
    step = 1e-5
    difference = (f(x + step * v[:, 0]) - f(x - step * v[:, 0])) / (2 * step)
    torch.testing.assert_close(f.at(x).jvp(v)[:, 0], difference, rtol=1e-6, atol=1e-8)


def test_products_do_not_depend_on_chunk_or_batch(networks):
    network = networks("sd")
    x, v = latents(network), vectors(2, 7, 4, 8, 8)
    f = BottleneckMap(network, T, condition(network))
    whole = f.at(x).jvp(v)
    for chunk in (2, 3, 5):
        small = BottleneckMap(network, T, condition(network), chunk=chunk)
        torch.testing.assert_close(small.at(x).jvp(v), whole, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(small(x), f(x), rtol=1e-10, atol=1e-10)
    one = BottleneckMap(network, T, condition(network), chunk=1)
    torch.testing.assert_close(pullback_norm(one, x, v), pullback_norm(f, x, v), rtol=1e-10, atol=1e-10)
    alone = f.rows([1]).at(x[1:]).jvp(v[1:])
    torch.testing.assert_close(alone, whole[1:], rtol=1e-10, atol=1e-10)


def test_chunk_limits_the_rows_per_call(networks):
    """Seven vectors at two samples, four rows at a time: two vectors per call."""
    network = networks("sd")
    f = BottleneckMap(network, T, condition(network), chunk=4)
    with network.counting() as count:
        f.at(latents(network)).jvp(vectors(2, 7, 4, 8, 8))
    assert count.calls == 4  # f(x) is not evaluated separately
    assert f.passes.forward == 4 * 2
    assert f.passes.jvp == f.passes.total - f.passes.forward == 14


def test_products_evaluate_the_function_as_well(network):
    """f(x) of either product is that of f, and costs no evaluation of its own."""
    x = latents(network)
    f = BottleneckMap(network, T, condition(network))
    for product in ("jvp", "vjp"):
        jacobian = f.at(x)
        shape = x.shape[1:] if product == "jvp" else (jacobian.d_h,)
        with counting_passes() as passes:
            getattr(jacobian, product)(vectors(2, 1, *shape))
            found = jacobian.h
        assert passes == Passes(forward=2, **{product: 2})
        torch.testing.assert_close(found, f(x))


def test_counting_passes_counts_all_maps_in_its_context(networks):
    network = networks("sd")
    f, other = (BottleneckMap(network, t, condition(network)) for t in (T, T - 100))
    f(latents(network))
    with counting_passes() as outer:
        f.at(latents(network)).vjp(vectors(2, 3, 16))
        with counting_passes() as inner:
            other.at(latents(network)).jvp(vectors(2, 2, 4, 8, 8))
    f(latents(network))
    assert inner == other.passes == Passes(forward=2, jvp=4)
    assert outer == Passes(forward=4, jvp=4, vjp=6)
    assert outer.products == {"forward_mode": 4, "reverse_mode": 6}


def test_network_is_unchanged(network):
    before = {name: type(each) for name, each in getattr(network.unet, "attn_processors", {}).items()}
    x = latents(network)
    f = BottleneckMap(network, T, condition(network))
    f.at(x).vjp(vectors(2, 1, f.h_shape(8, 8)[0]))
    assert {name: type(each) for name, each in getattr(network.unet, "attn_processors", {}).items()} == before
    assert not any(weight.requires_grad or weight.grad is not None for weight in network.unet.parameters())
    assert not any(module._forward_hooks for module in network.unet.modules())
    assert torch.backends.cuda.flash_sdp_enabled()


def test_float32_jvp_is_close_to_float64(tiny_folder, networks):
    low = load_model(tiny_folder("sd"), "cpu")
    x, v = latents(low), vectors(2, 2, 4, 8, 8)
    exact = BottleneckMap(networks("sd"), T, condition(networks("sd"))).at(x).jvp(v)
    found = BottleneckMap(low, T, condition(low)).at(x.float()).jvp(v.float())
    assert found.dtype == torch.float32
    assert float((found - exact).norm() / exact.norm()) < 1e-4


@pytest.mark.parametrize("what", ["output", "derivative", "latent"])
def test_non_finite_error_names_the_layer(networks, what):
    network = networks("sd")
    x = latents(network)
    f = BottleneckMap(network, T, condition(network))
    layer = network.unet.down_blocks[1].resnets[0].conv1

    def spoil(module, inputs, output):
        # sqrt(0) has an infinite derivative
        return output * torch.nan if what == "output" else output + (output.detach() - output).abs().sqrt()

    if what == "latent":
        x[0, 0, 0, 0] = torch.inf
        with pytest.raises(NonFinite, match="the latent x_t"):
            f.at(x).jvp(vectors(2, 1, 4, 8, 8))
        return
    handle = layer.register_forward_hook(spoil)
    try:
        if what == "output":
            with pytest.raises(NonFinite, match=rf"Timestep {T}: h of the bottleneck .*down_blocks.1.resnets.0.conv1"):
                f(x)
        with pytest.raises(NonFinite, match=rf"Timestep {T}: .*down_blocks.1.resnets.0.conv1"):
            f.at(x).jvp(vectors(2, 1, 4, 8, 8))
        if what == "derivative":
            with pytest.raises(NonFinite, match=r"whose derivative is not finite is down_blocks.1.resnets.0.conv1"):
                f.at(x).vjp(vectors(2, 1, f.h_shape(8, 8)[0]))
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": 1000}, "between 0 and 999"),
        ({"t": -1}, "between 0 and 999"),
        ({"t": 1.5}, "between 0 and 999"),
        ({"chunk": 0}, "chunk must be"),
        ({"pool": "mean"}, "pool must be"),
    ],
)
def test_bad_map_arguments_are_refused(networks, changes, message):
    with pytest.raises(BadInput, match=message):
        BottleneckMap(**{"network": networks("sd"), "t": T, **changes})


def test_vectors_of_wrong_shape_are_refused(networks):
    network = networks("sd")
    f = BottleneckMap(network, T, condition(network), chunk=2)
    jacobian = f.at(latents(network))
    with pytest.raises(BadInput, match=r"shape \[2, 'n', 4, 8, 8\]"):
        jacobian.jvp(vectors(2, 4, 8, 8))
    with pytest.raises(BadInput, match=r"shape \[2, 'n', 16\]"):
        jacobian.vjp(vectors(2, 1, 17))
    with pytest.raises(BadInput, match="chunk = 2"):
        f.at(latents(network, 3))
