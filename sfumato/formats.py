"""File formats based on safetensors: tensors, and a JSON header that describes them."""

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

Content = TypeVar("Content")

PREFIX = "sfumato."
"""Beginning of the names of all formats."""

#: Compared with the number of opening braces in the header, which includes those inside JSON strings.
_MOST_TENSORS = 10_000


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: identifier in the metadata of a file, with a version.
        what: name in error messages, such as "an inversion".
        remedy: advice for a file that cannot be used, as the end of an error message.
    """

    name: str
    what: str
    remedy: str

    @property
    def _give(self) -> str:
        return f"give {self.what} that was saved before"

    def write(self, path: Named, header: Mapping[str, Any], tensors: Mapping[str, "Tensor"]) -> None:
        """Write a file atomically; the header may contain any JSON values.

        Raises:
            BadInput: the folder does not exist or is not writable.
        """
        if not os.fspath(path):
            raise BadInput(f"The name of the file is empty: give the name of a .safetensors file for {self.what}.")
        write_tensors(path, tensors, {"format": self.name, "sfumato": json.dumps(header)})

    def matches(self, path: Named) -> bool:
        """Whether the metadata of a file name this format; its tensors are not read."""
        return self._metadata(path).get("format") == self.name

    def header(self, path: Named) -> Any:
        """The header of a file, a JSON value of any type, without reading the tensors; None if the format is another.

        Raises:
            BadInput: the header is damaged.
        """
        metadata = self._metadata(path)
        if metadata.get("format") != self.name:
            return None
        return self._parsed(metadata.get("sfumato", ""), printable(path))

    def check(self, path: Named) -> None:
        """Check a file as far as its header allows, without torch; its tensors are not read.

        Raises:
            BadInput: the file does not exist, is truncated or not a safetensors file, has another format, or its header
                is not JSON.
        """
        from safetensors import SafetensorError, safe_open

        name = printable(path)
        if name and not os.path.exists(path):
            raise BadInput(f"There is no file {name}: {self._give}.")
        check_header(path, self._give, _MOST_TENSORS)
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise self._damaged(name) from error
        self._check(name, metadata.get("format", ""))
        if "sfumato" not in metadata:
            raise self._damaged(name)
        self._parsed(metadata["sfumato"], name)

    def read(self, path: Named, assemble: Callable[[Any, dict[str, "Tensor"]], Content]) -> Content:
        """Read a file of unknown origin and return the result of `assemble`.

        Args:
            path: the file.
            assemble: called with the header, a JSON value of any type, and the tensors by name; raises KeyError,
                TypeError or ValueError if they are inconsistent.

        Raises:
            BadInput: the file does not exist, has another format or is damaged.
        """
        from safetensors import SafetensorError, safe_open

        name = printable(path)
        self.check(path)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                self._check(name, metadata.get("format", ""))  # again, as the file may have changed since
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return assemble(self._parsed(metadata["sfumato"], name), tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, ArithmeticError) as error:
            if isinstance(error, BadInput):
                raise
            raise self._damaged(name) from error

    def _metadata(self, path: Named) -> dict[str, str]:
        """The metadata of a safetensors file; {} if it cannot be read."""
        from safetensors import SafetensorError, safe_open

        try:
            check_header(path, self._give, _MOST_TENSORS)
            with safe_open(path, framework="np") as file:
                return file.metadata() or {}
        except (SafetensorError, OSError, BadInput):
            return {}

    def _parsed(self, header: str, name: str) -> Any:
        """The JSON value of a header; `name` is the printable name of the file. Raises BadInput."""
        return parse_json(header, f"{name} is damaged: its header", self.remedy)

    def _damaged(self, name: str) -> BadInput:
        return BadInput(f"{name} is not {self.what}, or is damaged: {self.remedy}.")

    def _check(self, name: str, stated: str) -> None:
        """Raise BadInput for a file, with this printable name, whose metadata state another format or version."""
        if stated == self.name:
            return
        if stated.rpartition(".")[0] == self.name.rpartition(".")[0]:
            raise BadInput(f"{name} is {self.what} of another version of sfumato: {self.remedy}.")
        kind = f" ({printable(stated):.50})" if stated.startswith(PREFIX) else ""
        raise BadInput(f"{name} is a safetensors file{kind}, but not {self.what}: {self._give}.")


# The formats of classes that need torch, which can be recognised without importing it.
INVERSION = Format("sfumato.inversion.2", "an inversion", "invert the image again")
"""The format of `sfumato.inversion.Inversion`."""
DIRECTIONS = Format("sfumato.directions.1", "a set of directions", "find them again")
"""The format of `sfumato.geometry.directions.Directions`."""
TEXT_DIRECTION = Format("sfumato.text-direction.2", "a text direction", "compute it again")
"""The format of `sfumato.shifts.text_direction.TextDirection`."""
DELTA_H = Format("sfumato.delta-h.1", "a delta-h", "train it again with `sfumato train delta-h`")
"""The format of `sfumato.shifts.delta_h.DeltaH`."""
PARASOL = Format("sfumato.parasol.5", "a PARASOL file", "train it again with `sfumato train parasol`")
"""The format of `sfumato.style.tokens.Parasol`."""
STYLE_ENCODER = Format("sfumato.style-encoder.1", "a style encoder", "train it again with `sfumato train style`")
"""The format of `sfumato.style.encoder.StyleEncoder`."""
