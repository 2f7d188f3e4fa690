"""Hooks on modules that several threads evaluate at once: each acts in the thread that attached it, and in no other."""

import threading
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

_ATTACHING = threading.Lock()
"""torch numbers its hooks without a lock: two threads could get one number, and a module keep one hook of the two."""


def attach_hook(module: nn.Module, hook: Callable[..., Any], *, with_kwargs: bool = False) -> RemovableHandle:
    """`module.register_forward_hook(hook)` for the evaluations of this thread alone.

    What another thread evaluates meanwhile is left as it is, so neither waits for the other. The handle that is
    returned must be removed.
    """
    thread = threading.current_thread()

    def of_thread(*call: Any) -> Any:
        return hook(*call) if threading.current_thread() is thread else None

    with _ATTACHING:
        return module.register_forward_hook(of_thread, with_kwargs=with_kwargs)
