"""Limits of images. This module does not import numpy or Pillow."""

MAX_PIXELS = 64_000_000
"""Width x height in pixels of the largest image that is read by default."""

LARGEST_SIDE = 8192
"""Longest side in pixels of images that are generated, and largest side of a square for --resolution."""
