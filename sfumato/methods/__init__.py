"""The published editing methods, one file per method; `sfumato.methods.registry` finds them by name.

A method declares its parameters without torch, so that `sfumato edit --help` and the checks of arguments start at once:
its file imports tensor code in the functions that use it, and for annotations under `typing.TYPE_CHECKING`.
`tests/cli/test_startup.py` checks that.
"""
