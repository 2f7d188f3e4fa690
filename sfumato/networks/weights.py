"""Find and validate the weight files of a network, before a library opens them."""

import errno
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sfumato.errors import BadInput, first_line
from sfumato.files import printable
from sfumato.kept_files import KeptFiles, version_of
from sfumato.networks.places import GIVE, has, model_file
from sfumato.safetensors_files import check_header
from sfumato.text_files import read_json

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
"""Names of the weight files of the two libraries, without extensions."""
#: Largest number of weight files of a network; the largest published networks have fewer than 200.
MAX_FILES = 1000
#: In sparse files above this size, at least one byte in 16 must be stored on the disk.
_LARGE, _HOLES = 64 << 20, 16
_SHARD = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)
_kept = KeptFiles[dict[str, tuple[int, ...]]](16)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Weights:
    """The weight files of a network and the tensors in them.

    Attributes:
        files: the safetensors files, with links resolved.
        shapes: shape of every tensor, by name; names are unique across files.
        places: index in `files` of the file with the tensor, by name.
    """

    files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, int]

    @property
    def values(self) -> int:
        """Number of values in all tensors."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def find_weights(folder: Path, stem: str, root: Path) -> Weights:
    """Find the weights in a folder of diffusers or transformers: STEM.safetensors, its shards, or their fp16 variant.

    Args:
        folder: folder of the network.
        stem: `DIFFUSERS` or `TRANSFORMERS`.
        root: the model folder that the user named, which must contain all files.

    Raises:
        BadInput: there are no weights or only pickles, a file is invalid, or a link leads out of the folder.
    """
    for whole, index in (
        (f"{stem}.safetensors", f"{stem}.safetensors.index.json"),
        (f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json"),
    ):
        if has(folder / whole):
            return _read_files([folder / whole], root)
        if has(folder / index):
            return _read_files([folder / name for name in _shards(folder / index, root)], root)
    if any(found for pattern in _PICKLES for found in folder.glob(pattern)):
        raise BadInput(
            f"{printable(folder)} contains pickled weights, which can run code when opened; convert them to "
            "safetensors."
        )
    raise BadInput(f"{printable(folder)} cannot be read: it has no {stem}.safetensors; {GIVE}.")


def single_file_weights(path: Path) -> Weights:
    """The weights in a safetensors file that the user named, which may be a link. Raises BadInput as `read_shapes`."""
    return _read_files([path], path.resolve().parent)


def read_shapes(path: Path, root: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of every tensor in a safetensors file, by name; the tensors are not loaded.

    The header is read and checked once while the file is unchanged (`sfumato.kept_files`).

    Raises:
        BadInput: this is not a regular file, a link leads out of `root`, or the header is invalid.
    """
    model_file(path, root)
    version = version_of(path)
    shapes = _kept.find(version)
    if shapes is None:
        shapes = _shapes(path)
        _kept.keep(version, shapes)
    return dict(shapes)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read and check the header. Raises BadInput."""
    check_header(path, GIVE)
    _check_holes(path)
    try:
        with safe_open(path, "np") as stored:  # "pt" would import torch
            return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise BadInput(f"{printable(path)} is not a valid safetensors file ({first_line(error)}): {GIVE}.") from error


def _read_files(paths: list[Path], root: Path) -> Weights:
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, int] = {}
    for number, path in enumerate(paths):
        found = read_shapes(path, root)
        if twice := [name for name in found if name in shapes]:
            raise BadInput(
                f"{printable(path)} contains the weight {twice[0]!r:.100}, which is also in another file: {GIVE}."
            )
        shapes |= found
        places |= dict.fromkeys(found, number)
    return Weights(tuple(model_file(path, root) for path in paths), shapes, places)


def _shards(index: Path, root: Path) -> list[str]:
    """The file names in an index; each must be the name of a safetensors file in the same folder."""
    model_file(index, root)
    table = read_json(index, GIVE)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise BadInput(f'{printable(index)} must have a "weight_map" with file names: {GIVE}.')
    files = sorted(set(names.values()))
    if wrong := [name for name in files if not _SHARD.fullmatch(name)]:
        raise BadInput(
            f"{printable(index)} names {wrong[0]!r:.100}, but weights must be .safetensors files in the same folder: "
            "convert them to safetensors."
        )
    if len(files) > MAX_FILES:
        raise BadInput(f"{printable(index)} names {len(files)} files, but at most {MAX_FILES} are allowed: {GIVE}.")
    return files


def _check_holes(path: Path) -> None:
    """Raise BadInput for sparse files, whose few stored kilobytes would become gigabytes of zeros in memory."""
    size = os.stat(path).st_size
    if size > _LARGE and (there := _stored_bytes(path, size)) * _HOLES < size:
        raise BadInput(f"{printable(path)} is a sparse file: only {there:,} of its {size:,} bytes are stored; {GIVE}.")


def _stored_bytes(path: Path, size: int) -> int:
    """Number of stored bytes of a sparse file; the file size if the file system does not report holes."""
    there = end = 0
    with open(path, "rb") as file:
        try:
            while end < size:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                there += end - start
        except OSError as error:
            return there if error.errno == errno.ENXIO else size  # ENXIO: only a hole up to the end
    return there
