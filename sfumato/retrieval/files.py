"""The image files of a folder with their metadata, which become columns of the index.

There are three kinds of folders: the emoji corpus (metadata from its table), a folder with a `metadata.jsonl` (all keys
of the file), and any other folder (its images and those of its subfolders; the column `folder` is the first subfolder).
Subfolders that cannot be listed are among the files, with the reason, so that they are counted as unreadable.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.data.corpus import TABLE, read_corpus
from sfumato.data.imagefolder import METADATA, read_entries
from sfumato.data.pixels import centre_square, centred_drawing, open_drawing
from sfumato.data.splits import split_of
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.images import MAX_PIXELS, read_image
from sfumato.images.read import FORMATS, SUFFIXES_OF, load_pixels
from sfumato.retrieval.tree import find_images
from sfumato.text_files import has_lone_surrogate

Value: TypeAlias = str | int | float | None
Stamp: TypeAlias = tuple[int, int, str]
SUFFIXES = tuple(suffix for each in FORMATS for suffix in SUFFIXES_OF[each])
#: Columns of the corpus that are copied to the index.
CORPUS = ("name", "style", "group", "subgroup", "untoned", "base", "skin_tone")


@dataclass(frozen=True)
class ImageFile:
    """One image to be indexed.

    Attributes:
        path: absolute path.
        columns: metadata of the image; texts and numbers by column name.
        box: bounding box of a drawing of the corpus; None for other images.
        problem: a sentence that says why the image cannot be read, if that is known; otherwise "".
    """

    path: Path
    columns: Mapping[str, Value] = field(default_factory=dict)
    box: tuple[int, int, int, int] | None = None
    problem: str = ""

    @property
    def stamp(self) -> Stamp | None:
        """Size in bytes, modification time in ns, and SHA-256 of the columns; None if the file does not exist."""
        try:
            about = self.path.stat()
        except OSError:
            return None
        columns = json.dumps(sorted(self.columns.items()))
        return about.st_size, about.st_mtime_ns, hashlib.sha256(columns.encode()).hexdigest()

    def squares(self, sizes: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Decode the image and scale it to one square uint8 [3,size,size] for each size, as in training.

        Raises:
            BadInput: the image cannot be read; the message names the file.
        """
        if self.problem:
            raise BadInput(self.problem)
        if self.box is not None:
            with open_drawing(self.path) as image:
                load_pixels(image, printable(self.path))
                return [centred_drawing(image, self.box, size) for size in sizes]
        rgb = Image.fromarray(read_image(self.path, MAX_PIXELS).rgb)
        return [centre_square(rgb, size) for size in sizes]


def located(path: str | os.PathLike[str]) -> Path:
    """Absolute path without "..", so that every file has a unique path.

    Symbolic links are not resolved, except if removing ".." without resolving them would give another file.
    """
    found = os.path.abspath(path)
    if ".." in Path(path).parts and os.path.exists(path):
        same = os.path.exists(found) and os.path.samefile(found, path)
        found = found if same else os.path.realpath(path)
    return Path(found)


def image_files(folder: str | os.PathLike[str]) -> list[ImageFile]:
    """The images of a folder, in the order of its table; without one, those of linked subfolders are the last.

    Raises:
        BadInput: the folder does not exist or cannot be listed, its table is damaged, or it contains no image.
    """
    root = located(folder)
    if not root.is_dir():
        raise BadInput(f"{printable(root)} is not a folder: name a folder of images.")
    if (root / TABLE).is_file():
        found = _of_corpus(root)
    elif (root / METADATA).is_file():
        found = _of_metadata(root)
    else:
        found = _of_tree(root)
    if all(each.problem for each in found):
        why = found[0].problem if found else f"name a folder of {', '.join(SUFFIXES)} files."
        raise BadInput(f"{printable(root)} contains no image: {why}")
    return found


def _of_corpus(root: Path) -> list[ImageFile]:
    """The drawings that are visible on white."""
    rows = [row for row in read_corpus(root).to_pylist() if row["visible"] > 0]
    return [
        ImageFile(
            root / row["file"],
            {name: row[name] for name in CORPUS}
            | {"caption": f"{row['name']}, {row['style']}", "split": split_of(row["base"], row["style"])}
            | {"duplicate": str(bool(row["duplicate_of"])).lower()},
            tuple(row["bbox"]),
        )
        for row in rows
    ]


def _of_metadata(root: Path) -> list[ImageFile]:
    """The images that `metadata.jsonl` lists; keys with texts or numbers become columns, `text` the caption."""
    found = [(located(root / file), entry) for _, file, entry in read_entries(root)]
    return [ImageFile(path, _columns(entry, path)) for path, entry in found]


def _columns(entry: Mapping[str, Any], path: Path) -> dict[str, Value]:
    if {"text", "caption"} <= entry.keys():
        raise BadInput(f"{METADATA}: {printable(path)} has the keys text and caption, which are one column: drop one.")
    named = {"caption" if key == "text" else key: value for key, value in entry.items() if key != "file_name"}
    return {_text(key): _value(value) for key, value in named.items() if isinstance(value, str | int | float)}


def _text(value: str) -> str:
    """The text with lone surrogates replaced by "?"."""
    return value.encode("utf-8", "replace").decode() if has_lone_surrogate(value) else value


def _value(value: str | float) -> Value:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value)  # true and false become 1 and 0
    return value if math.isfinite(value) else None


def _of_tree(root: Path) -> list[ImageFile]:
    """All files with the suffix of an image, and the subfolders that cannot be listed."""
    found, problems = find_images(root, SUFFIXES)
    images = [ImageFile(path, {"folder": _first_folder(path.relative_to(root))}) for path in found]
    return images + [ImageFile(path, problem=sentence) for path, sentence in problems.items()]


def _first_folder(path: Path) -> str:
    return printable(path.parts[0]) if len(path.parts) > 1 else ""
