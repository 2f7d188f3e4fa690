"""The two errors a user of sfumato is meant to see."""


class BadInput(ValueError):
    """Something the caller gave cannot be used; the message is one sentence that says what to do instead."""


class NonFinite(ArithmeticError):
    """A tensor holds NaN or infinity; the message names the step and the tensor."""
