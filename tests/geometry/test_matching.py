"""Global directions: matching of shuffled, flipped and noisy copies; files; refusals."""

import dataclasses
import json
import weakref

import pytest
import torch
from safetensors.torch import save_file

from sfumato.core.noise import gaussian
from sfumato.errors import BadInput
from sfumato.geometry import (
    BottleneckMap,
    Directions,
    find_directions,
    mean_directions,
    parse_weights,
    principal_directions,
)
from sfumato.geometry.basis import local_bases
from tests.geometry.conftest import T, latents


def directions_of(n=5, d=24, seed=0):
    return torch.linalg.qr(gaussian((d, n), seed, dtype=torch.float64))[0].mT


def copies(truth, samples=12, noise=0.1):
    """Copies of the true directions in another order, with other signs and noise; values by the true rank."""
    n, d = truth.shape
    generator = torch.Generator().manual_seed(1)
    orders = torch.stack([torch.randperm(n, generator=generator) for _ in range(samples)])
    signs = torch.randint(0, 2, (samples, n, 1), generator=generator) * 2.0 - 1
    u = truth[orders] * signs + noise / d**0.5 * torch.randn(samples, n, d, generator=generator)
    return torch.nn.functional.normalize(u, dim=2).double(), (10.0 - orders).double(), orders


def test_shuffled_and_flipped_directions_are_matched():
    truth = directions_of()
    u, values, orders = copies(truth)
    found = mean_directions(u, values)
    assert torch.equal(orders.gather(1, found.order), torch.arange(5).expand(12, -1))
    cosines = (found.mean * truth).sum(dim=1).abs()
    assert float(cosines.min()) > 0.995  # better than each copy by itself
    assert float(found.overlap.min()) > 0.97
    torch.testing.assert_close(found.values, torch.arange(10.0, 5.0, -1).double())
    largest = found.mean.gather(1, found.mean.abs().argmax(dim=1, keepdim=True))
    assert bool((largest > 0).all())


def test_mean_directions_do_not_depend_on_signs():
    u, values, _ = copies(directions_of())
    signs = torch.tensor([1.0, -1.0] * 30).double().reshape(12, 5, 1)
    torch.testing.assert_close(mean_directions(u, values).mean, mean_directions(signs * u, values).mean)


def test_principal_directions_of_a_known_distribution():
    axes = directions_of(3)
    deviations = torch.tensor([5.0, 2.0, 0.5]).double()
    h = 3 + (gaussian((4000, 3), 1, dtype=torch.float64) * deviations) @ axes
    found, spread = principal_directions(h, 3)
    assert float((found * axes).sum(dim=1).abs().min()) > 0.999
    torch.testing.assert_close(spread, deviations, rtol=0.05, atol=0)


@pytest.fixture(scope="module")
def found(networks):
    network = networks("sd")
    f = BottleneckMap(network, T, network.condition(["red cat"]))
    return find_directions(f, latents(network, 3), 4, steps=50, prompts=["red cat"])


def test_directions_are_saved_and_loaded(found, tmp_path, networks):
    path = tmp_path / "d.safetensors"
    renamed = found.renamed({"2": "hair colour", "4": "smile"})
    renamed.save(path)
    again = Directions.load(path)
    for each in dataclasses.fields(Directions):
        a, b = getattr(again, each.name), getattr(renamed, each.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert again.names == ("1", "hair colour", "3", "smile")
    assert len(again) == 4
    assert again.index("hair colour") == again.index("2") == 1
    assert again.samples == 3
    again.check_fits(networks("sd"), T, (4, 8, 8))


def test_directions_are_mixed_by_weight(found):
    mixed = found.mix(parse_weights("1=2, 3=-1"))
    expected = 2 * found.u[0] - found.u[2]
    torch.testing.assert_close(mixed, expected / expected.norm())
    torch.testing.assert_close(found.mix({"2": 0.1}), found.u[1])
    with pytest.raises(BadInput, match="cancel"):
        found.renamed({"1": "a"}).mix({"a": 1, "1": -1})


def test_find_directions_with_principal_components(networks):
    network = networks("sd")
    x = latents(network, 4)
    f = BottleneckMap(network, T, network.condition(["red cat"]))
    components = find_directions(f, x, 3, steps=50, kind="pca", names=["a", "b", "c"])
    assert components.kind == "pca"
    torch.testing.assert_close(components.u, principal_directions(f(x), 3)[0])
    with pytest.raises(BadInput, match="at most 3 principal components"):
        find_directions(f, x, 4, steps=50, kind="pca")
    with pytest.raises(BadInput, match="Give 3 names"):
        find_directions(f, x, 3, steps=50, names=["a"])
    with pytest.raises(BadInput, match="n must be between 1 and 16"):
        find_directions(f, x, 17, steps=50)
    with pytest.raises(BadInput, match="kind must be one of pullback, pca"):
        find_directions(f, x, 3, steps=50, kind="PCA")


def test_callback_counts_the_finished_samples(networks):
    network, done = networks("sd"), []
    f = BottleneckMap(network, T, network.condition(["red cat"]), chunk=2)
    found = find_directions(f, latents(network, 3), 4, steps=50, callback=done.append)
    assert done == [1, 2, 3]
    torch.testing.assert_close(found.u, find_directions(f, latents(network, 3), 4, steps=50).u)


def test_bases_of_finished_samples_are_freed(networks, monkeypatch):
    """The vectors v are n times as large as the latents; of a finished sample only u and the values are kept."""
    network, alive = networks("sd"), []
    f = BottleneckMap(network, T, network.condition(["red cat"]), chunk=2)

    def noted(*given):
        for part in local_bases(*given):
            alive.append(weakref.ref(part))
            yield part

    monkeypatch.setattr("sfumato.geometry.search.local_bases", noted)
    left = []
    find_directions(
        f, latents(network, 4), 3, steps=50, callback=lambda done: left.append(sum(r() is not None for r in alive))
    )
    assert max(left) <= 2  # the finished one and the one before it


def test_another_model_timestep_or_shape_is_refused(found, networks):
    with pytest.raises(BadInput, match="another model or precision"):
        found.check_fits(networks("sd2"), T, (4, 8, 8))
    with pytest.raises(BadInput, match=f"timestep {T} of a run of 50 steps, but would be used at timestep 5"):
        found.check_fits(networks("sd"), 5, (4, 8, 8))
    with pytest.raises(BadInput, match=r"latents of shape \[4, 8, 8\], not \[4, 8, 16\]"):
        found.check_fits(networks("sd"), T, (4, 8, 16))


@pytest.mark.parametrize(
    ("names", "message"),
    [({"1": "2"}, "number of another"), ({"1": ""}, "needs a name"), ({"1": "a=b"}, "needs a name"),
     ({"1": "a,b"}, "needs a name"), ({"1": "x", "2": "x"}, "same name"), ({"9": "x"}, 'no direction "9"')],
)  # fmt: skip
def test_bad_names_are_refused(found, names, message):
    with pytest.raises(BadInput, match=message):
        found.renamed(names)


@pytest.mark.parametrize("text", ["", "=", "a=", "a=x", "a,,b", "a,a", "1=1,1=2"])
def test_bad_weights_are_refused(text):
    with pytest.raises(BadInput, match="direction must be a name or a number"):
        parse_weights(text)


@pytest.mark.parametrize("weight", ["0", "inf", "nan", "1e300", "-1e-300", "2000"])
def test_weights_out_of_range_are_refused(weight):
    with pytest.raises(BadInput, match=r'weight of direction "b" must be between 0\.001 and 1000, not'):
        parse_weights(f"a,b={weight}")


def test_weights_are_parsed():
    assert parse_weights("3") == {"3": 1}
    assert parse_weights(" smile = 1.5 ,2=-1e-1") == {"smile": 1.5, "2": -0.1}


def test_files_without_directions_are_refused(found, tmp_path):
    with pytest.raises(BadInput, match="There is no file"):
        Directions.load(tmp_path / "none.safetensors")
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(BadInput, match="is a text that begins with"):
        Directions.load(path)
    save_file({"u": found.u}, path)
    with pytest.raises(BadInput, match="not a set of directions"):
        Directions.load(path)
    found.save(path)
    header = {"format": Directions.FORMAT.name}
    for sfumato in ("null", "{}", json.dumps({"names": ["1"]})):
        save_file({"u": found.u}, path, metadata=header | {"sfumato": sfumato})
        with pytest.raises(BadInput, match="damaged"):
            Directions.load(path)
    dataclasses.replace(found, u=found.u * torch.nan).save(path)
    with pytest.raises(BadInput, match="damaged"):
        Directions.load(path)
