"""The settings of a network: read from its folder, and only those that its class has, with plain values.

A table from elsewhere may say far more: which code to run (`auto_map`), how to unpack the weights
(`quantization_config`), where the weights are (`transformers_weights`), which kernel to fetch (`attn_implementation`),
of which base model this is a part. None of that is a setting of the class, so none of it is read.
"""

import inspect
import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.networks.places import GIVE, model_file
from sfumato.text_files import read_json

#: Whole numbers of a setting: no network that is published has larger ones.
MOST = 10_000_000
#: Entries of a list (block types, channels), characters of a text, and how deep lists lie in each other.
_LONGEST, _CHARACTERS, _DEPTH = 10_000, 200, 3
#: Functions that transformers and diffusers know by name and compute by themselves; others import packages.
ACTIVATIONS = frozenset(
    ("gelu", "gelu_10", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2",
     "relu6", "leaky_relu", "silu", "swish", "mish", "tanh", "sigmoid", "linear")
)  # fmt: skip
_ACTIVATION = re.compile(r"(?:^|_)act(?:_fn)?$")
_LAYERS = re.compile("layers|blocks|depth")
#: Settings without a field of their own: the precision, and those of CLIP's older files and Stable Diffusion's.
_PRECISIONS = ("float32", "float16", "bfloat16")
_BESIDE = ("text_config_dict", "vision_config_dict", "use_attention_mask")


def read_table(path: Path, root: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder.

    Raises:
        BadInput: no regular file in `root`, no JSON, too large or too deep, or no object.
    """
    model_file(path, root)
    table = read_json(path, GIVE)
    if not isinstance(table, dict):
        raise BadInput(f"{printable(path)} must hold one JSON object: {GIVE}.")
    return table


def diffusers_settings(kind: type[Any], path: Path, root: Path, tensors: int) -> dict[str, Any]:
    """The arguments of a class of diffusers that its config.json gives.

    Args:
        kind: the class.
        path: the file.
        root: the model folder.
        tensors: how many there are in the weight files, which bounds the number of layers.

    Raises:
        BadInput: as `read_table`; or a value that no network has.
    """
    known = set(inspect.signature(kind.__init__).parameters) - {"self"}
    table = read_table(path, root)
    return {name: _plain(name, value, tensors, path) for name, value in table.items() if name in known}


def scheduler_settings(kind: type[Any], path: Path, root: Path) -> dict[str, Any]:
    """The arguments of a scheduler of diffusers that its scheduler_config.json gives; as `diffusers_settings`."""
    return diffusers_settings(kind, path, root, MOST)


def transformers_settings(kind: type[Any], path: Path, root: Path, tensors: int) -> Any:
    """The configuration of a class of transformers that its config.json gives; as `diffusers_settings`.

    Where the file is that of a model of two encoders and the class is one of them, its part is taken.
    """
    table, config = read_table(path, root), kind.config_class
    part = config.base_config_key
    if table.get("model_type") != config.model_type and isinstance(table.get(part), dict):
        table = table[part]
    return config(**_fields(config, table, tensors, path))


def _fields(config: type[Any], table: dict[str, Any], tensors: int, path: Path) -> dict[str, Any]:
    """The fields that the class has beyond those of every class, and those of its parts."""
    known = {each.name for each in fields(config)} - {each.name for each in fields(PreTrainedConfig)}
    known |= {*config.attribute_map, *_BESIDE}
    chosen: dict[str, Any] = {}
    for name in sorted(known & set(table)):
        value, part = table[name], config.sub_configs.get(name.removesuffix("_dict"))
        if part is None:
            chosen[name] = _plain(name, value, tensors, path)
        elif value is not None:
            chosen[name] = _fields(part, _object(name, value, path), tensors, path)
    for name in ("torch_dtype", "dtype"):
        if table.get(name) in _PRECISIONS:
            chosen["dtype"] = table[name]
    return chosen


def _object(name: str, value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{printable(path)}: {name} must be an object: {GIVE}.")
    return value


def _plain(name: str, value: Any, tensors: int, path: Path, depth: int = _DEPTH) -> Any:
    """A value, looked at. Raises BadInput for what no setting of a network is."""
    if isinstance(value, list | dict):
        inner = value if isinstance(value, list) else list(value.values())
        if depth and len(inner) <= _LONGEST:
            for each in inner:
                _plain(name, each, tensors, path, depth - 1)
            return value
    elif isinstance(value, str):
        wanted = not _ACTIVATION.search(name) or value in ACTIVATIONS
        if wanted and len(value) <= _CHARACTERS:
            return value
    elif value is None or (math.isfinite(value) and abs(value) <= (tensors if _LAYERS.search(name) else MOST)):
        return value
    raise BadInput(f"{printable(path)}: {name} cannot be {value!r:.100} with these weights: {GIVE}.")
