"""The two errors a user of sfumato is meant to see, and what they tell of others."""

from sfumato.printing import one_line


class BadInput(ValueError):
    """Something the caller gave cannot be used; the message is one sentence that says what to do instead.

    Control characters in it, such as those of a prompt or a file, become escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class NonFinite(ArithmeticError):
    """A tensor holds NaN or infinity; the message names the step and the tensor."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def first_line(error: Exception) -> str:
    """What a library says, without its explanations; the error's name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
