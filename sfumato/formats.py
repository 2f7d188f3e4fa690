"""What is kept for later in one safetensors file: tensors, and in JSON what they are."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sfumato.errors import BadInput
from sfumato.files import Named, printable, write_tensors
from sfumato.safetensors_files import check_header
from sfumato.text_files import parse_json

if TYPE_CHECKING:
    from torch import Tensor

Kept = TypeVar("Kept")

#: Every opening brace of the header counts, also those of texts in it.
_MOST_TENSORS = 10_000


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: as the file says it, with a version.
        what: as messages say it, "an inversion".
        remedy: what to do about a file that cannot be used.
    """

    name: str
    what: str
    remedy: str

    @property
    def _give(self) -> str:
        return f"give {self.what} that was saved before"

    def write(self, path: Named, header: Mapping[str, Any], tensors: Mapping[str, "Tensor"]) -> None:
        """Write a file, which is there whole or not at all; the header is anything that JSON holds.

        Raises:
            BadInput: the folder does not exist or cannot be written.
        """
        write_tensors(path, tensors, {"format": self.name, "sfumato": json.dumps(header)})

    def holds(self, path: Named) -> bool:
        """Whether a file says that it is one of these; its tensors are not looked at."""
        from safetensors import SafetensorError, safe_open

        try:
            check_header(path, self._give, _MOST_TENSORS)
            with safe_open(path, framework="pt") as file:
                return (file.metadata() or {}).get("format") == self.name
        except (SafetensorError, OSError, BadInput):
            return False

    def read(self, path: Named, assemble: Callable[[Any, dict[str, "Tensor"]], Kept]) -> Kept:
        """What `assemble` makes of the header, of any type, and the tensors: files may come from anywhere.

        Args:
            path: the file.
            assemble: raises KeyError, TypeError or ValueError where the parts do not belong together.

        Raises:
            BadInput: no such file, one of another kind, or a damaged one.
        """
        from safetensors import SafetensorError, safe_open

        name = printable(path)
        if not os.path.exists(path):
            raise BadInput(f"There is no file {name}: {self._give}.")
        check_header(path, self._give, _MOST_TENSORS)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != self.name:
                    raise BadInput(f"{name} is a safetensors file, but not {self.what} of this version.")
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            header = parse_json(metadata["sfumato"], f"{name} is damaged: its header", self.remedy)
            return assemble(header, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, ArithmeticError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"{name} is not {self.what}, or is damaged: {self.remedy}.") from error
