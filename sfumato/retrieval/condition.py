"""SQL conditions on the columns of an index."""

import re
from typing import Any

from sfumato.errors import BadInput
from sfumato.retrieval.database import explained, is_of_storage
from sfumato.retrieval.index import ImageIndex
from sfumato.retrieval.storage_errors import storage_reason

_PARSER = re.compile(r"sql parser error: (?P<reason>(?:Expected: \), found: (?P<found>.+))|.+)\)", re.DOTALL)
"""An error of the SQL parser of LanceDB; `found` is what follows a complete expression."""


def restricted(query: Any, where: str) -> Any:
    """A query of LanceDB for the rows that satisfy a condition; "" for all rows.

    LanceDB ignores what follows the first complete expression. In parentheses, the condition is parsed completely; the
    line break ends a comment.
    """
    return query.where(f"({where}\n)") if where.strip() else query


_STORAGE = "LanceError(IO)"
"""Part of the message of an error of the storage, as opposed to one of a condition."""


class filtered(explained):
    """As `explained`; if the condition cannot be evaluated, the message contains the reason and the columns."""

    def __init__(self, index: ImageIndex, where: str) -> None:
        super().__init__(index.uri)
        self.index, self.where = index, where

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.where.strip() and is_of_storage(error) and _STORAGE not in str(error):
            raise BadInput(
                f'The condition "{self.where[:200]}" cannot be evaluated ({_reason(error)[:200]}); the columns are '
                f"{', '.join(self.index.columns)}."
            ) from error
        super().__exit__(kind, error, trace)


def _reason(error: Exception) -> str:
    """The reason why LanceDB does not evaluate a condition that `restricted` put in parentheses."""
    if not (parsed := _PARSER.search(str(error))):
        return storage_reason(error)
    if parsed["found"] == "EOF":
        return "a parenthesis is not closed"
    return f'AND, OR or the end must follow, not "{parsed["found"]}"' if parsed["found"] else parsed["reason"]
