"""The local tangent basis, against a dense SVD."""

import pytest
import torch

from sfumato.errors import BadInput
from sfumato.geometry import BottleneckMap, local_basis
from sfumato.geometry.basis import exact_cost
from sfumato.geometry.krylov import largest_triplets
from tests.geometry.conftest import T, condition, latents

CLOSE = 1e-4


def angle(a, b):
    """Largest principal angle between the spans of the rows of a and b."""
    a, b = (torch.linalg.qr(each.flatten(1).mT.double())[0] for each in (a, b))
    return float(torch.linalg.matrix_norm(b - a @ (a.mT @ b), ord=2).clamp(max=1).asin())


@pytest.fixture(scope="module")
def dense_svd(broad):
    """U, S, V^T of the dense Jacobian of two samples, pooled and not."""
    x = latents(broad, height=4)
    found = {}
    for pool in ("sum", None):
        f = BottleneckMap(broad, T, condition(broad), pool=pool)
        full = torch.autograd.functional.jacobian(f.evaluate, x)
        found[pool] = [torch.linalg.svd(full[i, :, i].flatten(1), full_matrices=False) for i in range(2)]
    return found


@pytest.mark.parametrize(("algorithm", "seed"), [("exact", 0), ("krylov", 0), ("krylov", 1)])
@pytest.mark.parametrize("n", [1, 5, 20, 50])
@pytest.mark.parametrize("pool", ["sum", None])
def test_basis_equals_the_dense_svd(broad, dense_svd, algorithm, pool, n, seed):
    x = latents(broad, height=4)
    f = BottleneckMap(broad, T, condition(broad), pool=pool)
    basis = local_basis(f, x, n, algorithm=algorithm, seed=seed)
    for i, (u, s, vt) in enumerate(dense_svd[pool]):
        assert float(((basis.values[i] - s[:n]) / s[:n]).abs().max()) < CLOSE
        assert angle(basis.v[i], vt[:n]) < CLOSE
        assert angle(basis.u[i], u[:, :n].mT) < CLOSE
        for k in (0, n - 1):  # every vector by itself, not only the span
            assert angle(basis.v[i, k : k + 1], vt[k : k + 1]) < CLOSE
    identity = torch.eye(n, dtype=torch.float64).expand(2, n, n)
    torch.testing.assert_close(basis.u @ basis.u.mT, identity, rtol=0, atol=1e-9)
    torch.testing.assert_close(basis.v.flatten(2) @ basis.v.flatten(2).mT, identity, rtol=0, atol=1e-9)


@pytest.mark.parametrize("algorithm", ["exact", "krylov"])
def test_jacobian_maps_v_to_u(networks, layout, algorithm):
    network = networks(layout)
    x = latents(network, height=8, width=12)
    f = BottleneckMap(network, T, condition(network))
    basis = local_basis(f, x, 4, algorithm=algorithm)
    images = f.at(x).jvp(basis.v)
    torch.testing.assert_close(images, basis.values[..., None] * basis.u, rtol=0, atol=1e-3 * float(basis.values.max()))
    coefficients = torch.tensor([[1.0, -2.0, 0.5, 0.25]] * 2, dtype=torch.float64)
    preimage = basis.preimage(coefficients)
    back = f.at(x).jvp(preimage[:, None])[:, 0]
    torch.testing.assert_close(back, basis.combine(coefficients), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(basis.coefficients(basis.combine(coefficients)), coefficients)


def test_basis_does_not_depend_on_batch_or_chunk(broad):
    x = latents(broad, 3)
    c = broad.condition(["red cat", "blue dog", "star"])
    together = local_basis(BottleneckMap(broad, T, c), x, 3)
    alone = local_basis(BottleneckMap(broad, T, c).rows([2]), x[2:], 3)
    small = local_basis(BottleneckMap(broad, T, c, chunk=4), x, 3)
    assert len(together) == 3
    assert together.n == 3
    for other, index in ((alone, [2]), (small, [0, 1, 2])):
        torch.testing.assert_close(other.v, together.rows(index).v, rtol=0, atol=1e-3)
        torch.testing.assert_close(other.u, together.rows(index).u, rtol=0, atol=1e-3)


def test_cheaper_algorithm_is_chosen_and_passes_are_counted(broad):
    x = latents(broad)
    few = local_basis(BottleneckMap(broad, T, condition(broad), pool=None), x, 2)
    many = local_basis(BottleneckMap(broad, T, condition(broad)), x, 40)
    assert (few.algorithm, many.algorithm) == ("krylov", "exact")
    # with all positions H has 1024 dimensions and X 256; columns need products J v, which are more expensive
    whole = BottleneckMap(broad, T, condition(broad), pool=None)
    assert exact_cost(whole, x) == pytest.approx(1.35 * 256)
    assert exact_cost(BottleneckMap(broad, T, condition(broad)), x) == 64
    assert many.passes.vjp == 2 * 64
    assert many.passes.jvp == 0
    assert few.passes.vjp == few.passes.jvp > 0
    assert few.passes.total < 2 * 256
    assert float(few.angle.max()) <= 1e-4


def test_float32_basis_is_close_to_float64(tiny_folder, networks):
    from sfumato.models.load import load_model

    network = load_model(tiny_folder("sd"), "cpu")
    x = latents(network)
    exact = local_basis(BottleneckMap(networks("sd"), T, condition(networks("sd"))), x, 5)
    for algorithm in ("exact", "krylov"):
        found = local_basis(BottleneckMap(network, T, condition(network)), x.float(), 5, algorithm=algorithm)
        assert found.v.dtype == torch.float32
        assert float(((found.values - exact.values) / exact.values).abs().max()) < CLOSE
        assert max(angle(found.v[i], exact.v[i]) for i in range(2)) < CLOSE


def test_bases_in_half_precision_are_finite(tiny_folder):
    from sfumato.models.load import load_model

    network = load_model(tiny_folder("sd"), "cpu", "bf16")
    for algorithm in ("exact", "krylov"):
        x = latents(network).float()
        basis = local_basis(BottleneckMap(network, T, condition(network)), x, 16, algorithm=algorithm)
        assert bool(torch.isfinite(basis.v).all())
        assert basis.v.dtype == torch.float32


@pytest.mark.parametrize("n", [0, 65, 1.0, True])
@pytest.mark.parametrize("algorithm", ["exact", "krylov"])
def test_invalid_n_is_refused_before_any_evaluation(broad, n, algorithm):
    calls = broad.count.calls
    with pytest.raises(BadInput, match="n must be between 1 and 64"):
        local_basis(BottleneckMap(broad, T, condition(broad)), latents(broad), n, algorithm=algorithm)
    assert broad.count.calls == calls


def test_n_above_the_rank_of_the_jacobian_is_refused(broad):
    """Only eight channels of the last layer are kept, so that the Jacobian has rank eight."""
    resnet = broad.unet.mid_block.resnets[1]
    f = BottleneckMap(broad, T, condition(broad))

    def keep_eight(module, inputs, output):
        return output * (torch.arange(output.shape[1]) < 8).to(output.dtype)[:, None, None]

    handle = resnet.register_forward_hook(keep_eight)
    try:
        for algorithm in ("exact", "krylov"):
            assert local_basis(f, latents(broad), 8, algorithm=algorithm).n == 8
            with pytest.raises(BadInput, match="rank 8 at this latent: n must be between 1 and 8, not 9"):
                local_basis(f, latents(broad), 9, algorithm=algorithm)
    finally:
        handle.remove()
    with pytest.raises(BadInput, match="algorithm must be"):
        local_basis(f, latents(broad), 1, algorithm="power")


def test_equal_singular_values_end_the_iteration():
    """A matrix whose n-th and following singular values agree has no n-th direction; the values are still right."""
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64))[0] for k in (40, 60))
    values = torch.tensor([9.0, 5, 5, 5] + [1.0] * 36, dtype=torch.float64)
    matrix = left @ torch.diag(values) @ right[:, :40].mT
    start = torch.randn(1, 40, 2, generator=generator, dtype=torch.float64)
    found = largest_triplets(lambda q: matrix.mT @ q, lambda p: matrix @ p, start, 2, most=40, tolerance=1e-4)
    torch.testing.assert_close(found.values[0], values[:2], rtol=1e-9, atol=0)
    found = largest_triplets(lambda q: matrix.mT @ q, lambda p: matrix @ p, start, 4, most=40, tolerance=1e-4)
    assert angle(found.right[0].mT, left[:, :4].mT) < CLOSE


def test_rounded_products_do_not_stop_the_iteration_early():
    """With products rounded to 8 bits, the iteration continues while the residuals still decrease."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64))[0] for k in (60, 80))
    matrix = left @ torch.diag(1000 * torch.arange(1, 61, dtype=torch.float64) ** -3) @ right[:, :60].mT
    start = torch.randn(1, 60, 4, generator=generator, dtype=torch.float64)

    def rounded(product):
        return product.bfloat16().double()

    def found(n):
        return largest_triplets(
            lambda q: rounded(matrix.mT @ q), lambda p: rounded(matrix @ p), start, n, most=60, tolerance=1e-4
        )

    assert angle(found(5).right[0].mT, left[:, :5].mT) < 0.05
    assert float(found(5).residual / found(5).values[0, -1]) < 0.25 < float(found(8).residual / found(8).values[0, -1])


def test_directions_lost_in_rounding_errors_are_refused(broad, monkeypatch):
    monkeypatch.setattr("sfumato.geometry.basis.UNKNOWN", 0.0)
    f = BottleneckMap(broad, T, condition(broad))
    with pytest.raises(BadInput, match="The last of 3 directions cannot be distinguished from rounding errors"):
        local_basis(f, latents(broad), 3, algorithm="krylov")
    assert local_basis(f, latents(broad), 3, algorithm="exact").n == 3
