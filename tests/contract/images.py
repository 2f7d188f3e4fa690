"""Two images of different sizes."""

from tests.tiny import tiny_image

IMAGE = tiny_image(32, 32)
OTHER = tiny_image(40, 24, seed=3)
