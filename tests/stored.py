"""Reads and writes the parts of a saved inversion, so that tests can make invalid files."""

import json

from safetensors import safe_open
from safetensors.torch import save_file

from sfumato.inversion import Inversion


def parts(path):
    """Return (header, tensors) as stored in the file."""
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return json.loads(file.metadata()["sfumato"]), {name: file.get_tensor(name) for name in names}


def write(path, header, tensors):
    """Write a file of these parts; a header that is a string is written unchanged."""
    text = header if isinstance(header, str) else json.dumps(header)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, {"format": Inversion.FORMAT.name, "sfumato": text})
    return path
