"""Third-party packages that register a method, a metric or a task, as if installed by pip."""

import importlib
import sys

from sfumato.editing.registry import METHODS
from sfumato.inversion.registry import INVERSIONS
from sfumato.metrics import METRICS
from sfumato.train.registry import TASKS

METHOD = """
from sfumato.methods.edit_friendly import EditFriendlyParams
from sfumato.editing.registry import method
{before}
@method(
    {name!r},
    summary="a method of a test",
    params=EditFriendlyParams,
    inversion="edit-friendly",
    handles={handles!r},
)
def shifts(job, params):
    return []
{after}
"""

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
    bound_to, image_count = {}, 0

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


def method(name, before="", after="", handles=()):
    """The code of a module with a method."""
    return METHOD.format(name=name, before=before, after=after, handles=handles)


def install(monkeypatch, folder, registry, name, code, package="thirdparty"):
    """Install a package with one module and one entry point for the duration of a test."""
    install_package(monkeypatch, folder, package, {"module": code}, {registry.group: {name: f"{package}.module"}})
    read_again(monkeypatch, registry)


def install_package(monkeypatch, folder, package, modules, entries):
    """Put a package of modules (name to code) with entry points (group to name to module) into a folder on the path."""
    for registry in (METHODS, INVERSIONS, METRICS, TASKS):
        list(registry)  # load it before the package is installed, so that nothing remains after the test
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    for name, code in modules.items():
        (folder / package / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, f"{package}.{name}", raising=False)
    monkeypatch.delitem(sys.modules, package, raising=False)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    name = package.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = [[f"[{group}]", *(f"{key} = {value}" for key, value in each.items())] for group, each in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(line for group in groups for line in group) + "\n")
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()


def read_again(monkeypatch, registry):
    """Make a registry search for packages again; its state is restored after the test."""
    monkeypatch.setattr(registry, "_registered", dict(registry))
    monkeypatch.setattr(registry, "_unloaded", [])
    monkeypatch.setattr(registry, "_imported", False)
