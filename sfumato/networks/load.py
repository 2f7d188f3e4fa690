"""Load a network of diffusers or transformers from its folder."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sfumato.errors import BadInput, NonFinite, first_line
from sfumato.files import printable
from sfumato.libraries import quiet
from sfumato.networks.configs import diffusers_settings, transformers_settings
from sfumato.networks.differences import Differences, compare, renamed, without_harmless
from sfumato.networks.fits import check_fits, most_tensors
from sfumato.networks.places import GIVE
from sfumato.networks.weights import DIFFUSERS, TRANSFORMERS, Weights, find_weights

CONFIG = "config.json"


def load_network(
    kind: type[Any],
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    root: Path | None = None,
    optional: str | None = None,
) -> Any:
    """Load a network of a given class from its folder, whose safetensors files must contain exactly its weights.

    Args:
        kind: a class of diffusers or transformers; the class name in the folder is ignored.
        folder: folder of the network, with config.json and the weights.
        dtype: precision; None for that of the files, in transformers.
        root: the model folder that the user named, if `folder` is a part of it.
        optional: substring of the names of weights that may be missing because they are not used.

    Raises:
        BadInput: the folder does not exist or cannot be read, its weights are pickled, a file links to the outside, or
            its weights are not those that config.json describes (the libraries would initialise missing ones randomly
            and leave out others).
    """
    root, transformer = root or folder, issubclass(kind, PreTrainedModel)
    stem = TRANSFORMERS if transformer else DIFFUSERS
    weights = find_weights(folder, stem, root)
    how: dict[str, Any] = {"trust_remote_code": False, "ignore_mismatched_sizes": True} if transformer else {}
    how |= {} if dtype is None else {"dtype": dtype}
    with readable(f"{printable(folder)} cannot be read as a {kind.__name__}"), quiet(), staged(weights, stem) as clean:
        network = write_settings(kind, folder, root, weights, clean)
        if not transformer:
            _check_weights(compare(network, renamed(network, weights)), folder, optional)
        network, found = kind.from_pretrained(
            clean, local_files_only=True, use_safetensors=True, output_loading_info=True, **how
        )
    if transformer:  # which has its own rules for the names in files of older versions
        _check_weights(_reported(network, found), folder, optional)
    _name(network, folder)
    return network


def _reported(network: PreTrainedModel, found: Mapping[str, Any]) -> Differences:
    """The differences that transformers found."""
    shapes = {name: (tuple(ours), tuple(theirs)) for name, theirs, ours in found["mismatched_keys"]}
    reshaped = [(name, *shapes[name]) for name in network.state_dict() if name in shapes]
    unexpected = without_harmless(network, found["unexpected_keys"])
    return Differences(tuple(sorted(found["missing_keys"])), unexpected, tuple(reshaped))


def _check_weights(found: Differences, folder: Path, optional: str | None) -> None:
    """Raise BadInput for differences between a configuration and its weights, except missing `optional` weights."""
    missing = tuple(name for name in found.missing if optional is None or optional not in name)
    if clause := replace(found, missing=missing).clause:
        raise BadInput(f"{printable(folder / CONFIG)} does not fit the weights beside it: {clause}; {GIVE}.")


def write_settings(
    kind: type[Any], folder: Path, root: Path, weights: Weights, into: Path, changes: Mapping[str, Any] | None = None
) -> Any:
    """Validate the config.json of a network and write it to the folder `into`.

    Args:
        kind: a class of diffusers or transformers.
        folder: folder of the network.
        root: the model folder that the user named.
        weights: the weights of the network, or of the whole model.
        into: folder to write to; it is created.
        changes: settings of a diffusers class that replace those of the file.

    Returns:
        The network on the meta device.

    Raises:
        BadInput: a value is invalid, the settings are inconsistent, or the network is much larger than its weights.
    """
    layers, path = most_tensors(len(weights.shapes)), folder / CONFIG
    into.mkdir(exist_ok=True)
    with _consistent(kind, path):
        if issubclass(kind, PreTrainedModel):
            config = transformers_settings(kind, path, root, layers)
            network = check_fits(lambda: kind(config), weights, folder)
            config.to_json_file(into / CONFIG)
        else:
            settings = diffusers_settings(kind, path, root, layers) | dict(changes or {})
            network = check_fits(lambda: kind(**settings), weights, folder)
            (into / CONFIG).write_text(json.dumps(settings), encoding="utf-8")
    return network


@contextmanager
def _consistent(kind: type[Any], path: Path) -> Iterator[None]:
    """Convert exceptions of a class about its settings to BadInput, with its reason if it states one."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        stated = error.__cause__ or error
        reason = "its settings contradict one another"
        if isinstance(stated, ValueError):
            reason = first_line(stated).rstrip(".")
        raise BadInput(
            f"{printable(path)} is not a valid configuration of the class {kind.__name__} ({reason:.300}): {GIVE}."
        ) from error


@contextmanager
def staged(weights: Weights, stem: str) -> Iterator[Path]:
    """A temporary folder with links to the weight files, under the names that the libraries expect."""
    with tempfile.TemporaryDirectory(prefix="sfumato-") as name:
        folder, count = Path(name), len(weights.files)
        names = [f"{stem}.safetensors"]
        if count > 1:
            names = [f"{stem}-{number + 1:05}-of-{count:05}.safetensors" for number in range(count)]
            index = {"metadata": {}, "weight_map": {tensor: names[number] for tensor, number in weights.places.items()}}
            (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        for link, file in zip(names, weights.files, strict=True):
            (folder / link).symlink_to(file)
        yield folder


def _name(network: Any, folder: Path) -> None:
    """Set the name of a network to the folder that the user gave, instead of the temporary one."""
    if isinstance(network, PreTrainedModel):
        network.name_or_path = network.config.name_or_path = str(folder)
    else:
        network.register_to_config(_name_or_path=str(folder))


@contextmanager
def readable(problem: str) -> Iterator[None]:
    """Convert exceptions of the libraries about broken files to BadInput.

    All exceptions are converted, because some libraries raise bare Exceptions and values in a file can cause any error.

    Args:
        problem: beginning of the message, without a colon.

    Raises:
        BadInput: instead of the exception, with the first line of its message.
    """
    try:
        yield
    except (BadInput, NonFinite):
        raise
    except Exception as error:
        raise BadInput(f"{problem}: {first_line(error)}") from error
