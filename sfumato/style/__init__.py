"""Encoders for style descriptors (A) and content descriptors (C), arXiv 2303.06464; used by `sfumato.retrieval`."""

from typing import TYPE_CHECKING

from sfumato.lazy import lazily

if TYPE_CHECKING:
    from sfumato.style.content import ContentEncoder
    from sfumato.style.encoder import StyleEncoder

__all__ = ["ContentEncoder", "StyleEncoder"]
__getattr__ = lazily(__name__, {"ContentEncoder": "sfumato.style.content", "StyleEncoder": "sfumato.style.encoder"})
