"""Forward hooks on modules shared by several threads; a hook runs only in the thread that registered it."""

import threading
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

_ATTACHING = threading.Lock()
"""torch assigns hook ids without a lock: without this lock, two threads could get the same id and one hook be lost."""


def attach_hook(
    module: nn.Module, hook: Callable[..., Any], *, with_kwargs: bool = False, first: bool = False
) -> RemovableHandle:
    """`module.register_forward_hook(hook)`, but only for forward passes of the current thread.

    Forward passes of other threads are unaffected, and no thread waits for another. The caller must remove the
    returned handle. With `first`, the hook is called before those that are attached already.
    """
    thread = threading.current_thread()

    def of_thread(*call: Any) -> Any:
        return hook(*call) if threading.current_thread() is thread else None

    with _ATTACHING:
        return module.register_forward_hook(of_thread, with_kwargs=with_kwargs, prepend=first)
