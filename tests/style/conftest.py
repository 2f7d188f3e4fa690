"""The fixtures of the tests of training and of the command line."""

from tests.cli.conftest import folder  # noqa: F401
from tests.cli.conftest import sfumato as sfumato_command  # noqa: F401
from tests.train.conftest import _fresh_accelerator, pictures  # noqa: F401
