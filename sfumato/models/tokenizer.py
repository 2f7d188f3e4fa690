"""A thread-safe tokenizer."""

import threading
from typing import Any


class SharedTokenizer:
    """Wraps a tokenizer with a lock, so that only one thread calls it at a time.

    Every call sets padding and truncation in the underlying tokenizer, which a concurrent call would read or reset.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._calling = threading.Lock()

    def __call__(self, *texts: Any, **options: Any) -> Any:
        """Tokenise texts, with the arguments of the tokenizer."""
        with self._calling:
            return self._tokenizer(*texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)
