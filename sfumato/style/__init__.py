"""Descriptors of style (A) and of content (C), arXiv 2303.06464; `sfumato.retrieval` searches by them."""

from sfumato.style.content import ContentEncoder
from sfumato.style.encoder import StyleEncoder

__all__ = ["ContentEncoder", "StyleEncoder"]
