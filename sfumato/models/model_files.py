"""Checks of the files of a model from their first bytes and headers, which need neither torch nor diffusers."""

from pathlib import Path
from typing import Any

from sfumato.architectures import Architecture, architecture_of
from sfumato.errors import BadInput
from sfumato.models.file_kinds import check_complete, stated_schedule
from sfumato.models.index import NETWORKS, TEXT_ENCODERS, part_folder, read_index
from sfumato.models.names import is_single_file, place_of
from sfumato.networks.weights import DIFFUSERS, TRANSFORMERS, Weights, find_weights, single_file_weights


def check_model(name: str, config: str | Path | None = None) -> bool | None:
    """Check the files of a model on this machine as far as possible without torch; no tensor is read.

    Args:
        name: as for `sfumato.load`.
        config: as for `sfumato.load`.

    Returns:
        Whether the model has a text encoder; None for a hub id.

    Raises:
        BadInput: there is no such model, it is not supported, or a file is missing, damaged or of another kind.
    """
    place = place_of(name)
    check_config(name, place, config)
    if place is None:
        return None
    if not is_single_file(place):
        return _check_folder(place)
    weights, _ = read_checkpoint(place)
    if config is not None:
        return read_index(Path(config).expanduser()).takes_text
    find_architecture(place, weights)
    return True  # all published architectures have text encoders


def check_config(name: str, place: Path | None, config: str | Path | None) -> None:
    """Raise BadInput for a configuration that is given for another model than a single file."""
    if config is not None and (place is None or not is_single_file(place)):
        raise BadInput(
            f"--config (in Python: config=) is for a single .safetensors file, which {name} is not; leave it out."
        )


def read_checkpoint(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Read the names and shapes of the tensors of a single file, and the scheduler settings that it declares.

    Raises:
        BadInput: the file is not a checkpoint of a complete model, or declares a schedule that cannot be used.
    """
    weights = single_file_weights(path)
    check_complete(path, weights.shapes)
    return weights, stated_schedule(path, weights.shapes)


def find_architecture(path: Path, weights: Weights) -> Architecture:
    """Return the published architecture of a single file.

    Raises:
        BadInput: it has another one.
    """
    found = architecture_of(weights.shapes)
    if found is None:
        raise BadInput(
            f"{path} is not of the architecture of Stable Diffusion 1.x, 2.x or XL: give --config (in Python: config=) "
            "with the diffusers folder of a model of the same architecture."
        )
    return found


def _check_folder(folder: Path) -> bool:
    """Check the index and the weights of a pipeline folder; return whether it has a text encoder."""
    index = read_index(folder)
    for part in index.kinds:
        place = part_folder(folder, part)
        if part in NETWORKS:
            find_weights(place, TRANSFORMERS if part in TEXT_ENCODERS else DIFFUSERS, folder)
    return index.takes_text
