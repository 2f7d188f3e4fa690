"""The exceptions that sfumato raises for its users."""

from sfumato.printing import one_line


class BadInput(ValueError):
    """An argument, a setting or a file cannot be used; the message is one sentence that contains the remedy.

    Control characters in the message, for example from a prompt or a file name, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class NonFinite(ArithmeticError):
    """A tensor contains NaN or infinity; the message names the step and the tensor."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def first_line(error: Exception) -> str:
    """First line of the message of an exception, or the name of its class if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
