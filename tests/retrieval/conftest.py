"""Small encoders, a folder of shapes, and their index."""

import pytest

from sfumato.retrieval.files import image_files
from sfumato.retrieval.index import ImageIndex
from sfumato.retrieval.indexing import index_files
from sfumato.style.describers import Describers
from tests.cli.conftest import folder, sfumato  # noqa: F401
from tests.style.small import save_both, shapes


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """Folders of the content encoder and of the style encoder."""
    return save_both(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="session")
def describers(encoders):
    return Describers.load(*encoders)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    place = tmp_path_factory.mktemp("images") / "shapes"
    shapes(place, 23)
    return place


def indexed(uri, describers, place, **options):
    files = image_files(place)
    index = ImageIndex.create(str(uri), describers, files)
    *_, state = index_files(index, describers, files, batch=8, **options)
    return index, state


@pytest.fixture(scope="session")
def index(tmp_path_factory, describers, images):
    return indexed(tmp_path_factory.mktemp("index") / "index", describers, images)[0]
