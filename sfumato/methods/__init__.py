"""The published editing methods, one file per method; see `sfumato.editing.registry`.

The files of the methods do not import torch at module level, so that `sfumato edit --help` and the argument checks
start quickly. Tensor code is imported inside the functions that use it, and under `typing.TYPE_CHECKING` for
annotations. `tests/cli/test_startup.py` checks this.
"""
