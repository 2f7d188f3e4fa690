"""Limits of image files. This module does not import numpy or Pillow."""

MAX_PIXELS = 64_000_000
"""Width x height in pixels of the largest image that is read by default."""
