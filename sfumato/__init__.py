"""sfumato: edit real images with diffusion models, measure the edits, and train the models."""

from typing import TYPE_CHECKING

from sfumato.lazy import lazily

if TYPE_CHECKING:
    from sfumato.api import Inverted, Model, load

__version__ = "0.1.0"

__all__ = ["Inverted", "Model", "__version__", "load"]
__getattr__ = lazily(__name__, dict.fromkeys(("Inverted", "Model", "load"), "sfumato.api"))
