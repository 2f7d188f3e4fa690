"""Read the configuration of a network: only the settings that its class has, with plain values.

An untrusted configuration may contain other entries: code to run (`auto_map`), how to unpack the weights
(`quantization_config`), the location of the weights (`transformers_weights`), a kernel to download
(`attn_implementation`), a base model. They are not settings of the class and are ignored.
"""

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.networks.places import GIVE
from sfumato.networks.tables import read_table

#: Largest absolute value of a number in a setting; published networks have smaller ones.
MOST = 10_000_000
#: Limits: entries of a list (block types, channels), characters of a string, and depth of nested lists.
_LONGEST, _CHARACTERS, _DEPTH = 10_000, 200, 3
#: Activation functions that transformers and diffusers implement; they would import packages for other names.
ACTIVATIONS = frozenset(
    ("gelu", "gelu_10", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2",
     "relu6", "leaky_relu", "silu", "swish", "mish", "tanh", "sigmoid", "linear")
)  # fmt: skip
_ACTIVATION = re.compile(r"(?:^|_)act(?:_fn)?$")
_LAYERS = re.compile("layers|blocks|depth")
#: Settings that are not fields of the class: precisions, and those in older files of CLIP and Stable Diffusion.
_PRECISIONS = ("float32", "float16", "bfloat16")
_BESIDE = ("text_config_dict", "vision_config_dict", "use_attention_mask")


def diffusers_settings(kind: type[Any], path: Path, root: Path, tensors: int) -> dict[str, Any]:
    """Read the arguments of a diffusers class from its config.json.

    Args:
        kind: the class.
        path: the file.
        root: the model folder.
        tensors: upper limit for numbers of layers, from the number of tensors in the weight files.

    Raises:
        BadInput: as in `read_table`; or a value is invalid.
    """
    return _settings((kind,), path, root, tensors)


def scheduler_settings(kinds: Sequence[type[Any]], path: Path, root: Path) -> dict[str, Any]:
    """Read the arguments of diffusers schedulers from a scheduler_config.json, as `diffusers_settings`.

    Args:
        kinds: the class of the scheduler, and others whose arguments are kept too.
        path: the file.
        root: the model folder.

    Raises:
        BadInput: as `diffusers_settings`.
    """
    return _settings(kinds, path, root, MOST)


def _settings(kinds: Sequence[type[Any]], path: Path, root: Path, tensors: int) -> dict[str, Any]:
    """The settings in a file that are arguments of at least one of the classes."""
    known = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters} - {"self"}
    table = read_table(path, root)
    return {name: _plain(name, value, tensors, path) for name, value in table.items() if name in known}


def transformers_settings(kind: type[Any], path: Path, root: Path, tensors: int) -> Any:
    """Read the configuration of a transformers class from its config.json, as `diffusers_settings`.

    If the file describes a model with two encoders and the class is one of them, the part of that encoder is used.
    """
    table, config = read_table(path, root), kind.config_class
    part = config.base_config_key
    if table.get("model_type") != config.model_type and isinstance(table.get(part), dict):
        table = table[part]
    return config(**_fields(config, table, tensors, path))


def _fields(config: type[Any], table: dict[str, Any], tensors: int, path: Path) -> dict[str, Any]:
    """The settings of the class and its sub-configurations, without those that all classes share."""
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
    """Check a value. Raises BadInput if it is not a valid value of a setting."""
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
