"""sfumato: edit real images with diffusion models, measure the edits, and train the models."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {"load": "sfumato.api", "Model": "sfumato.api", "Inverted": "sfumato.api"}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `sfumato --help` does not import torch."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
