"""Loading a network of diffusers or transformers from its folder."""

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
    """A network from its folder, of the class that we say: safetensors alone, and every weight there.

    Args:
        kind: a class of diffusers or transformers; what the folder says of its class is not looked at.
        folder: of the network, with config.json and its weights.
        dtype: the precision; None for that of the files, in transformers.
        root: the model folder that the user named, where `folder` is a part of it.
        optional: part of the names of weights that may be missing, as nothing here looks at them.

    Raises:
        BadInput: no such folder, or one that cannot be read, is pickled, leads elsewhere, or lacks weights (the
            libraries would fill the gaps with random numbers).
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
            f"{printable(folder)} is no whole {kind.__name__}: it lacks {len(missing)} weights, among them "
            f"{missing[0]}; {GIVE}."
        )
    _name(network, folder)
    return network


def write_settings(kind: type[Any], folder: Path, root: Path, weights: Weights, into: Path) -> None:
    """Write the config.json of a network's folder, looked at, into a folder of our own.

    Raises:
        BadInput: values that no network has, or a network much larger than its weights. What the class raises for
            settings that do not go together comes through.
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
    """A folder of our own with links to weight files, under the names that the libraries look for."""
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
    """Let a network say that it comes from where the user said, not from our folder."""
    if isinstance(network, PreTrainedModel):
        network.name_or_path = network.config.name_or_path = str(folder)
    else:
        network.register_to_config(_name_or_path=str(folder))


@contextmanager
def readable(problem: str) -> Iterator[None]:
    """Turn what the libraries raise about a broken file into one sentence.

    Some of them raise bare Exceptions, and numbers of any kind may come from a file, so there is no list of classes.

    Raises:
        BadInput: instead of what was raised, with its first line.
    """
    try:
        yield
    except (BadInput, NonFinite):
        raise
    except Exception as error:
        raise BadInput(f"{problem}: {first_line(error)}") from error
