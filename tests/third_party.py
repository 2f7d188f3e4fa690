"""Modules of other packages that register a metric or a training task, as pip would have installed them."""

import importlib
import sys

METRIC = """
from sfumato.metrics import metric

@metric("brightness", help="change of the mean pixel value", better="lower")
def brightness(batch):
    return (batch.edit - batch.source).mean((1, 2, 3)).abs()
"""

TASK = """
import torch
from torch import nn
from sfumato.train.registry import task
from sfumato.train.task import Phase

class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Linear(4, 4)

    def forward(self, batch):
        return (self.network(batch["x"]) - batch["x"]).square().mean(), {}

@task("identity")
class IdentityTask:
    bound_to, pictures = {}, 0

    def __init__(self, recipe, folder, device):
        self.phases = (Phase("identity", Loss()),)

    def batch(self, generator, size):
        return {"x": torch.randn(size, 4, generator=generator)}

    def sample(self, folder, step):
        pass

    def export(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.phases[0].module.state_dict(), folder / "weights.pt")
"""


def install(monkeypatch, folder, registry, name, code, package="lender"):
    """Put a package with one module and one entry point into a folder, for the length of a test."""
    (folder / f"{package}.py").write_text(code)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.group}]\n{name} = {package}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, package, raising=False)
    importlib.invalidate_caches()
    read_again(monkeypatch, registry)


def read_again(monkeypatch, registry):
    """Let a registry look for packages again; after the test it holds what it held before."""
    monkeypatch.setattr(registry, "_registered", dict(registry))
    monkeypatch.setattr(registry, "_unloaded", [])
    monkeypatch.setattr(registry, "_imported", False)
