"""The geometry benchmark on a tiny model; its algorithms find the same directions."""

import json

import torch

from benchmarks.geometry import main
from benchmarks.power_iteration import dense, power_iteration
from sfumato.geometry import BottleneckMap, local_basis
from tests.geometry.conftest import T, condition, latents


def test_algorithms_find_the_same_directions(networks):
    network = networks("sd")
    f = BottleneckMap(network, T, condition(network, 1))
    x = latents(network, 1)
    ours, all_of_it = local_basis(f, x, 3), dense(f, x)
    torch.testing.assert_close(all_of_it.values[:3], ours.values[0], rtol=1e-9, atol=0)
    plain = power_iteration(f, x, 3, lambda v: False, 40)
    torch.testing.assert_close(plain.values, ours.values[0], rtol=1e-4, atol=0)
    overlap = torch.linalg.svdvals(plain.v @ ours.v[0].flatten(1).mT)
    assert float(overlap.min()) > 1 - 1e-6
    assert plain.passes == 4 * 3 * 40
    assert power_iteration(f, x, 3, lambda v: True, 40).passes == 12


def test_algorithms_use_the_device_of_the_latents(networks, monkeypatch):
    """Tensors created without a device would be on the meta device, as they would be on the CPU next to a GPU."""
    f, x = BottleneckMap(networks("ddpm"), T), latents(networks("ddpm"), 1)
    drawn = torch.randn(x[0].numel(), 2, dtype=torch.float64)
    monkeypatch.setattr("benchmarks.power_iteration.gaussian", lambda *given, device, dtype: drawn.to(device, dtype))
    with torch.device("meta"):
        assert dense(f, x).v.device == power_iteration(f, x, 2, lambda v: False, 1).v.device == x.device


def test_benchmark_writes_its_results_and_table(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- measured: begin -->\n<!-- measured: end -->\n")
    assert main(["--quick", "--out", str(tmp_path / "b.json"), "--page", str(page)]) == 0
    found = json.loads((tmp_path / "b.json").read_text())
    assert {cost["contender"] for cost in found["costs"]} >= {"sfumato", "dense Jacobian", "power iteration"}
    assert all(cost["angle"] < 1e-3 for cost in found["costs"] if cost["contender"].startswith("sfumato"))
    assert found["passes_per_evaluation"] > 0  # a ratio of times, which other programs on the machine change
    assert "| 3 | sfumato |" in page.read_text()
    assert "| 3 | sfumato |" in capsys.readouterr().out


def test_unknown_model_is_refused(capsys):
    assert main(["--model", "nowhere"]) == 2
    assert "no model nowhere" in capsys.readouterr().err
