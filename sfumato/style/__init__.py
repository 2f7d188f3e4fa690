"""Encoders for style descriptors (A) and content descriptors (C), arXiv 2303.06464; used by `sfumato.retrieval`."""

from sfumato.style.content import ContentEncoder
from sfumato.style.encoder import StyleEncoder

__all__ = ["ContentEncoder", "StyleEncoder"]
