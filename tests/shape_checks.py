"""Checks of shape annotations in tests: the same checks as those of jaxtyping, in a fraction of the time.

In every call `jaxtyping.jaxtyped` binds the arguments to the signature, and checks the parameters twice: before the
call, and again together with the result. With tiny networks that is a third of the time of a test. Here the type
checker wraps the function itself, which checks parameters and result once each, with one table of dimensions per call.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype.roar import BeartypeCallHintViolation
from jaxtyping._storage import pop_shape_memo, push_shape_memo


def jaxtyped(decorated: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """The decorator that the import hook of jaxtyping puts on every function and class of the packages to check."""
    if decorated is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if not inspect.isclass(decorated):
        return _checked(decorated, typechecker)
    if dataclasses.is_dataclass(decorated) and "__init__" in vars(decorated):
        decorated.__init__ = _checked(decorated.__init__, typechecker)  # type: ignore[misc]
    return decorated


def _checked(function: Any, typechecker: Callable[[Any], Any]) -> Any:
    if hasattr(function, "__wrapped__"):
        return function
    checked = typechecker(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        push_shape_memo({})
        try:
            return checked(*args, **kwargs)
        except BeartypeCallHintViolation as error:
            raise jaxtyping.TypeCheckError(str(error)) from error
        finally:
            pop_shape_memo()

    return call


def install() -> None:
    """Must be called before the first import of a package to check."""
    jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]
