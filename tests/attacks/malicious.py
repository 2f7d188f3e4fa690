"""Malicious model folders: functions that damage one file, or contents of files, by name.

`outside` is a folder beside the model folder with files that must not be opened: a pickle that leaves a mark, and valid
weights.
"""

import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

#: A module in the working directory, which leaves a mark when it is imported.
MODULE = "stranger_module"
DEEP = 100_000
NOT_THERE = "/no/such/folder/model.safetensors"


class Bomb:
    """An object whose pickle creates the file `mark` when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def change_json(path: Path, *inside: str, **changes: Any) -> None:
    """Change entries of the object in a JSON file, or of the nested object at the keys `inside`."""
    table = json.loads(path.read_text())
    place = table
    for name in inside:
        place = place[name]
    place.update(changes)
    path.write_text(json.dumps(table))


def header(entries: str | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """The content of a safetensors file with this header."""
    entries = entries if isinstance(entries, bytes) else entries.encode()
    return struct.pack("<Q", len(entries) if length is None else length) + entries + body


def tensors(count: int) -> str:
    """A header with `count` empty tensors."""
    one = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return "{" + ",".join(f'"t{n}":{one}' for n in range(count)) + "}"


def tensor(shape: str = "[1]", offsets: str = "[0,4]", dtype: str = '"F32"', name: str = "a") -> str:
    return f'{{"{name}":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")


def _holes(path: Path) -> None:
    entries = tensor("[27487790694]", f"[0,{4 * 27487790694}]")
    path.write_bytes(header(entries))
    os.truncate(path, path.stat().st_size + 4 * 27487790694)


def _link(path: Path, to: str | Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


#: Replacements of a file by something that is not a regular file in its folder.
PLACES = {
    "a pipe": lambda path, outside: _pipe(path),
    "a folder": lambda path, outside: _folder(path),
    "a device": lambda path, outside: _link(path, "/dev/zero"),
    "a terminal": lambda path, outside: _link(path, "/dev/tty"),
    "a link to itself": lambda path, outside: _link(path, path.name),
    "a link to nothing": lambda path, outside: _link(path, "nothing"),
    "a link out": lambda path, outside: (shutil.copy(path, outside / "sound"), _link(path, outside / "sound")),
    "a link up and out": lambda path, outside: (
        shutil.copy(path, outside / "sound"),
        _link(path, os.path.relpath(outside / "sound", path.parent)),
    ),
}

#: Malformed or malicious contents of a weight file.
WEIGHTS = {
    "nothing": lambda path: path.write_bytes(b""),
    "seven bytes": lambda path: path.write_bytes(b"1234567"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Bomb(path.with_name("mark")))),
    "a pickle of torch": lambda path: torch.save({"a": Bomb(path.with_name("mark"))}, path),
    "a zip": _zip,
    "gguf": lambda path: path.write_bytes(b"GGUF" + bytes(500)),
    "hdf5": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500)),
    "an endless header": lambda path: path.write_bytes(header("{}", length=(1 << 64) - 1)),
    "a header longer than the file": lambda path: path.write_bytes(header("{}", length=1000)),
    "a header of 20 MB": lambda path: path.write_bytes(header("{" + " " * (20 << 20) + "}")),
    "a header of 30000 tensors": lambda path: path.write_bytes(header(tensors(30_000))),
    "a deep header": lambda path: path.write_bytes(header('{"a":' * 5000 + "1" + "}" * 5000)),
    "a deep list": lambda path: path.write_bytes(header("[" * DEEP)),
    "no object": lambda path: path.write_bytes(header("[]")),
    "no UTF-8": lambda path: path.write_bytes(header(b'{"\xff\xfe": 1}')),
    "values beyond the file": lambda path: path.write_bytes(header(tensor(offsets="[0,4000000]"), bytes(4))),
    "values from behind": lambda path: path.write_bytes(header(tensor(offsets="[4,0]"), bytes(4))),
    "a negative side": lambda path: path.write_bytes(header(tensor("[-1]"), bytes(4))),
    "a side beyond 64 bits": lambda path: path.write_bytes(header(tensor("[99999999999999999999999]"), bytes(4))),
    "a product beyond 64 bits": lambda path: path.write_bytes(header(tensor("[4294967296,4294967296,4]"), bytes(4))),
    "no such precision": lambda path: path.write_bytes(header(tensor(dtype='"PICKLE"'), bytes(4))),
    "another network's": lambda path: path.write_bytes(header(tensor(), bytes(4))),
    "no tensors": lambda path: path.write_bytes(header("{}")),
    "a hole of 100 GB": _holes,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
}

#: Malicious or invalid file names in an index of shards.
SHARDS: dict[str, Any] = {
    "a pickle": "pytorch_model.bin",
    "a pickle outside": "../outside/pickle.bin",
    ".pt": "weights.pt",
    ".ckpt": "weights.ckpt",
    "gguf": "weights.gguf",
    "msgpack": "flax_model.msgpack",
    "hdf5": "tf_model.h5",
    "python": "weights.py",
    "a file above": "../sound.safetensors",
    "a file outside": "../outside/sound.safetensors",
    "an absolute path": NOT_THERE,
    "a file in a folder": "folder/sound.safetensors",
    "a file through a link": "link.safetensors",
    "no such file": "missing.safetensors",
    "the home": "~/model.safetensors",
    "an address": "https://example.org/model.safetensors",
    "a null byte": "a\0.safetensors",
    "a new line": "a\n.safetensors",
    "a pipe": "pipe.safetensors",
    "a device": "/dev/zero",
    "nothing": "",
    "a point": ".",
    "two points": "..",
    "a number": 5,
    "null": None,
    "a list": ["model.safetensors"],
    "an object": {"a": "model.safetensors"},
}

#: Malicious or invalid contents of a JSON file.
TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "a number": b"5",
    "not a number": b"NaN",
    "no UTF-8": b'{"a": "\xff"}',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a number of 5000 digits": b'{"a": ' + b"1" * 5000 + b"}",
    "an unpaired surrogate": b'{"\\ud800": "\\udfff"}',
    "17 MB": b'{"a": "' + b"a" * (17 << 20) + b'"}',
    "zeros": bytes(1000),
    "a pickle": pickle.dumps({"a": 1}),
}

#: Entries of a config that request code, other files or other behaviour.
DEMANDS: dict[str, dict[str, Any]] = {
    "code": {"auto_map": {"AutoConfig": f"{MODULE}.Config", "AutoModel": f"{MODULE}.Model"}},
    "code of a repository": {"auto_map": {"AutoConfig": f"some/repository--{MODULE}.Config"}},
    "a pipeline of its own": {"custom_pipelines": {"x": {"impl": MODULE}}, "custom_code": MODULE},
    "a class of a module": {"_class_name": f"{MODULE}.Model"},
    "a class as a pair": {"_class_name": [MODULE, "Model"]},
    "another class": {"_class_name": "DiffusionPipeline"},
    "architectures": {"architectures": [f"{MODULE}.Model"]},
    "quantisation": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    "unknown quantisation": {"quantization_config": {"quant_method": MODULE}},
    "torchao": {"quantization_config": {"quant_method": "torchao", "quant_type": MODULE}},
    "other weights": {"transformers_weights": "pytorch_model.bin"},
    "other weights outside": {"transformers_weights": "../outside/pickle.bin"},
    "a kernel": {"attn_implementation": "some/kernel", "_attn_implementation": "some/kernel"},
    "an inner kernel": {"_attn_implementation_internal": "some/kernel", "use_kernels": True},
    "an attribute of torch": {"torch_dtype": "load"},
    "a module as a precision": {"dtype": MODULE},
    "a precision that is none": {"dtype": {"": "float32"}},
    "an adapter": {"base_model_name_or_path": "some/model", "peft_type": "LORA"},
    "another name": {"_name_or_path": "../outside", "name_or_path": "../outside"},
    "layers of their own": {"per_layer_config": {"0": {"hidden_size": 10**9}}},
    "fusion": {"fusion_config": {MODULE: True}},
    "a plan": {"tp_plan": "auto", "base_model_tp_plan": {"*": MODULE}},
    "labels": {"id2label": {str(n): "x" for n in range(20_000)}},
    "no outputs": {"return_dict": False, "output_hidden_states": True},
}

#: Invalid values of a setting.
VALUES: dict[str, Any] = {
    "a million": 10**6,
    "a billion": 10**9,
    "10^30": 10**30,
    "nothing of it": 0,
    "less than nothing": -(10**9),
    "not a number": float("nan"),
    "infinity": float("inf"),
    "a text": MODULE,
    "an object": {"a": {"b": 1}},
    "a long list": [1] * 20_000,
    "a deep list": [[[[[[1]]]]]],
}
