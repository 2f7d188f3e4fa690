"""sfumato: edits real images inside diffusion models, measures the edit, trains the models it edits with."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {"load": "sfumato.api", "Model": "sfumato.api", "Inverted": "sfumato.api"}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `sfumato --help` does not wait for torch."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
