"""Two images of different sizes."""

from tests.tiny import tiny_picture

PICTURE = tiny_picture(32, 32)
OTHER = tiny_picture(40, 24, seed=3)
