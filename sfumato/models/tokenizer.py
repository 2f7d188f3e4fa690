"""A tokenizer that several threads may call at once."""

import threading
from typing import Any


class SharedTokenizer:
    """A tokenizer whose calls wait for one another.

    Every call sets padding and truncation in the one tokenizer below, and a call beside it would read or clear them.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._calling = threading.Lock()

    def __call__(self, *texts: Any, **options: Any) -> Any:
        """What the tokenizer makes of the texts."""
        with self._calling:
            return self._tokenizer(*texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)
