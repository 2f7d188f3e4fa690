"""Shared code of the tests of `sfumato edit --recipe`: arguments, changed recipes, and the comparison of images."""

import numpy as np
from PIL import Image

from sfumato.images.recipe import read_recipe
from sfumato.images.write import write_image
from tests.tiny import tiny_image

FAST = ("--steps", 4, "--skip", 1)

ONE = ("photo.png", "--from", "red cat", "--to", "green cat", "-o", "out.png", *FAST)

AGAIN = ("--recipe", "out.png", "-o", "again.png")


def same(first, second):
    with Image.open(first) as one, Image.open(second) as other:
        return np.array_equal(np.asarray(one), np.asarray(other))


def written(recipe, **changes):
    """Write the recipe of out.png with changed values to changed.png; returns the arguments that repeat it."""
    found = read_recipe("out.png") | changes
    write_image("changed.png", np.asarray(tiny_image(30, 22)), None, found)
    return ("--recipe", "changed.png", "-o", "again.png")
