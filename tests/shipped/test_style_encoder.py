"""The style encoder that the package ships."""

import pytest
import torch

from sfumato.errors import BadInput
from sfumato.style.describers import Describers

STYLES = ("noto", "twemoji", "fluent-flat", "fluent-color", "emojitwo")


@pytest.fixture(scope="module")
def style():
    return Describers.load().style


def flat_square(colour):
    image = torch.ones(1, 3, 64, 64)
    image[..., 16:48, 16:48] = torch.tensor(colour)[:, None, None]
    return image


def test_it_is_the_default_and_knows_the_styles_of_the_corpus(style):
    for name in STYLES:
        assert style.text_features([name]).norm().item() == pytest.approx(1, abs=1e-5)
    with pytest.raises(BadInput):
        style.text_features(["impressionism"])


def test_the_palette_counts_and_the_place_does_not(style):
    """The yellow of twemoji's faces, moved, against the same square in another yellow and in grey."""
    own = style.image_features(flat_square([1.0, 0.80, 0.30]))
    moved = style.image_features(flat_square([1.0, 0.80, 0.30]).roll((8, -8), dims=(2, 3)))
    other, grey = (style.image_features(flat_square(colour)) for colour in ([0.99, 0.76, 0.18], [0.5, 0.5, 0.5]))
    assert (own @ moved.T).item() > (own @ other.T).item() > (own @ grey.T).item()
