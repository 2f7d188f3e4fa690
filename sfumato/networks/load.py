"""Load a network of diffusers or transformers from its folder."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sfumato.errors import BadInput, NonFinite, first_line
from sfumato.files import printable
from sfumato.libraries import quiet
from sfumato.networks.configs import diffusers_settings, transformers_settings
from sfumato.networks.fits import check_fits, most_tensors
from sfumato.networks.places import GIVE
from sfumato.networks.weights import Weights, find_weights

CONFIG = "config.json"


def load_network(
    kind: type[Any],
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    root: Path | None = None,
    optional: str | None = None,
) -> Any:
    """Load a network of a given class from its folder; all weights must be in its safetensors files.

    Args:
        kind: a class of diffusers or transformers; the class name in the folder is ignored.
        folder: folder of the network, with config.json and the weights.
        dtype: precision; None for that of the files, in transformers.
        root: the model folder that the user named, if `folder` is a part of it.
        optional: substring of the names of weights that may be missing because they are not used.

    Raises:
        BadInput: the folder does not exist or cannot be read, its weights are pickled, a file links to the outside, or
            weights are missing (the libraries would initialise them randomly).
    """
    root, transformer = root or folder, issubclass(kind, PreTrainedModel)
    stem = "model" if transformer else "diffusion_pytorch_model"
    weights = find_weights(folder, stem, root)
    how: dict[str, Any] = {"trust_remote_code": False} if transformer else {}
    how |= {} if dtype is None else {"dtype": dtype}
    with readable(f"{printable(folder)} cannot be read as a {kind.__name__}"), quiet(), staged(weights, stem) as clean:
        write_settings(kind, folder, root, weights, clean)
        network, found = kind.from_pretrained(
            clean, local_files_only=True, use_safetensors=True, output_loading_info=True, **how
        )
    missing = sorted(name for name in found["missing_keys"] if optional is None or optional not in name)
    if missing:
        raise BadInput(
            f"{printable(folder)} is an incomplete {kind.__name__}: it lacks {len(missing)} weights, among them "
            f"{missing[0]}; {GIVE}."
        )
    _name(network, folder)
    return network


def write_settings(kind: type[Any], folder: Path, root: Path, weights: Weights, into: Path) -> None:
    """Validate the config.json of a network and write it to the folder `into`.

    Raises:
        BadInput: a value is invalid, or the network is much larger than its weights. Exceptions of the class for
            inconsistent settings are not caught.
    """
    layers, path = most_tensors(len(weights.shapes)), folder / CONFIG
    into.mkdir(exist_ok=True)
    if issubclass(kind, PreTrainedModel):
        config = transformers_settings(kind, path, root, layers)
        check_fits(lambda: kind(config), weights, folder)
        config.to_json_file(into / CONFIG)
    else:
        settings = diffusers_settings(kind, path, root, layers)
        check_fits(lambda: kind(**settings), weights, folder)
        (into / CONFIG).write_text(json.dumps(settings), encoding="utf-8")


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
