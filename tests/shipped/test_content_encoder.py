"""The content encoder that the package ships."""

import numpy as np
import pytest
from PIL import Image

from sfumato.data.pixels import centre_square
from sfumato.examples import examples
from sfumato.models.bundled import BUNDLED
from sfumato.style.describers import Describers
from tests.shipped.test_shipped_model import LIMIT


def test_it_is_the_default_and_finds_the_caption_of_every_example():
    describers = Describers.load()
    shown = examples()
    squares = [centre_square(Image.open(each.path).convert("RGB"), describers.content.size) for each in shown]
    images = describers.images("content", squares)
    captions = describers.texts("content", [each.source.rpartition(", ")[0] for each in shown])
    assert (images @ captions.T).argmax(1).tolist() == list(range(len(shown)))
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("beside", ["descriptors", "parasol"])
def test_the_model_with_one_other_folder_is_below_the_limit(beside):
    files = [file for name in ("emoji", beside) for file in (BUNDLED / name).rglob("*") if file.is_file()]
    assert len(files) > 10
    assert sum(file.stat().st_size for file in files) <= LIMIT
