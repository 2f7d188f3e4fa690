"""The weight files of a network: found, and looked at, before any library opens them."""

import errno
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sfumato.errors import BadInput, first_line
from sfumato.files import printable
from sfumato.networks.places import GIVE, has, model_file
from sfumato.safetensors_files import check_header
from sfumato.text_files import read_json

#: Most files that one network is spread over; the largest that are published have fewer than 200.
MAX_FILES = 1000
#: Of files above this size, at most all but one in 16 bytes may be holes, which take no place on the disk.
_LARGE, _HOLES = 64 << 20, 16
_SHARD = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Weights:
    """Where the weights of a network lie.

    Attributes:
        files: the safetensors files, links followed.
        shapes: of every tensor by its name; no name is in two files.
        places: of every tensor the number of its file.
    """

    files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, int]

    @property
    def values(self) -> int:
        """How many numbers there are in all tensors."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def find_weights(folder: Path, stem: str, root: Path) -> Weights:
    """The weights in a folder of diffusers or transformers: STEM.safetensors, its parts, or those in half precision.

    Args:
        folder: of the network.
        stem: "diffusion_pytorch_model" or "model".
        root: the model folder that the user named, which no file may leave.

    Raises:
        BadInput: none, pickles alone, a name or a place that no weights have, or a file that is not sound.
    """
    for whole, index in (
        (f"{stem}.safetensors", f"{stem}.safetensors.index.json"),
        (f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json"),
    ):
        if has(folder / whole):
            return _looked_at([folder / whole], root)
        if has(folder / index):
            return _looked_at([folder / name for name in _shards(folder / index, root)], root)
    if any(found for pattern in _PICKLES for found in folder.glob(pattern)):
        raise BadInput(
            f"{printable(folder)} holds pickled weights, which can run code when opened; convert them to safetensors."
        )
    raise BadInput(f"{printable(folder)} cannot be read: it has no {stem}.safetensors; {GIVE}.")


def single_file_weights(path: Path) -> Weights:
    """All weights in a safetensors file that the user named, itself or by a link. Raises BadInput as `read_shapes`."""
    return _looked_at([path], path.resolve().parent)


def read_shapes(path: Path, root: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a safetensors file, by its name; none is read.

    Raises:
        BadInput: no regular file, a link out of `root`, a header that is not sound or does not fit the file.
    """
    model_file(path, root)
    check_header(path, GIVE)
    _check_holes(path)
    try:
        with safe_open(path, "pt") as stored:
            return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise BadInput(f"{printable(path)} is no whole safetensors file ({first_line(error)}): {GIVE}.") from error


def _looked_at(paths: list[Path], root: Path) -> Weights:
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, int] = {}
    for number, path in enumerate(paths):
        found = read_shapes(path, root)
        if twice := [name for name in found if name in shapes]:
            raise BadInput(f"{printable(path)} holds the weight {twice[0]!r:.100} of another file once more: {GIVE}.")
        shapes |= found
        places |= dict.fromkeys(found, number)
    return Weights(tuple(model_file(path, root) for path in paths), shapes, places)


def _shards(index: Path, root: Path) -> list[str]:
    """The names of the files that an index lists, each a plain name of a safetensors file beside it."""
    model_file(index, root)
    table = read_json(index, GIVE)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise BadInput(f'{printable(index)} must have a "weight_map" of the names of files: {GIVE}.')
    files = sorted(set(names.values()))
    if wrong := [name for name in files if not _SHARD.fullmatch(name)]:
        raise BadInput(
            f"{printable(index)} names {wrong[0]!r:.100}, and weights must be .safetensors files beside it: "
            "convert them to safetensors."
        )
    if len(files) > MAX_FILES:
        raise BadInput(f"{printable(index)} names {len(files)} files, and at most {MAX_FILES} are read: {GIVE}.")
    return files


def _check_holes(path: Path) -> None:
    """Refuse a file that is nearly all holes: a few kilobytes that would become gigabytes of zeros in memory."""
    size = os.stat(path).st_size
    if size > _LARGE and (there := _on_the_disk(path, size)) * _HOLES < size:
        raise BadInput(f"{printable(path)} is nearly empty: {there:,} of its {size:,} bytes exist; {GIVE}.")


def _on_the_disk(path: Path, size: int) -> int:
    """Bytes of a file that are no holes; all of them where the file system does not tell."""
    there = end = 0
    with open(path, "rb") as file:
        try:
            while end < size:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                there += end - start
        except OSError as error:
            return there if error.errno == errno.ENXIO else size  # ENXIO: nothing but a hole until the end
    return there
