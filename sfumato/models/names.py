"""Names of models and precisions, checked without importing torch or diffusers."""

from pathlib import Path

from sfumato.errors import BadInput
from sfumato.models.bundled import list_models
from sfumato.paths import is_hub_id

PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")
"""Extensions of pickled weights, which can execute code when they are loaded."""
PRECISIONS = {
    "auto": "float32",
    "fp32": "float32",
    "float32": "float32",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
}
"""Name of a precision -> name of the type in torch."""


def is_single_file(path: Path) -> bool:
    """Whether the path names one file of weights rather than a folder."""
    return path.suffix.lower() in (".safetensors", *PICKLES) and not path.is_dir()


def place_of(name: str) -> Path | None:
    """The folder of a bundled model, a local folder or a local file of weights; None for a hub id.

    Names are looked up in this order; "./emoji" is a local folder of that name.

    Raises:
        BadInput: there is no such model, or its weights are a pickle.
    """
    if not name.strip():
        raise BadInput("The name of the model is empty: give a bundled name, a diffusers folder, a file or a hub id.")
    path, bundled = Path(name).expanduser(), {model.name: model.folder for model in list_models()}
    if is_single_file(path):
        if path.suffix.lower() in PICKLES:
            raise BadInput(f"{path} is a pickle, which can run code when opened; convert it to .safetensors.")
        if not path.exists():
            raise BadInput(f"There is no file {path}; give the path of a .safetensors file.")
        if path.suffix != ".safetensors":  # diffusers takes such a file for a pickle
            raise BadInput(f"{path} must end in .safetensors in lower case: rename it.")
        return path
    if name in bundled:
        return bundled[name]
    if path.is_dir():
        return path
    if path.exists():
        raise BadInput(f"{path} is neither a pipeline folder nor a .safetensors file; give one of them.")
    if is_hub_id(name):
        return None
    raise BadInput(
        f"There is no model {name}: give a bundled name ({', '.join(bundled) or 'none here'}), a diffusers folder, "
        "a .safetensors file, or a hub id such as org/name."
    )


def check_precision(name: str) -> None:
    """Raise BadInput for an unknown name of a precision."""
    if name not in PRECISIONS:
        raise BadInput(f"There is no precision {name}; use auto, fp32, bf16 or fp16.")
