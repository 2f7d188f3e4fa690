"""The folders of image networks (CLIP, vision transformers, LPIPS), checked as far as possible without torch."""

import os
from pathlib import Path

from sfumato.errors import BadInput
from sfumato.networks.places import has
from sfumato.networks.preprocessor import read_preprocessor, read_statistics
from sfumato.networks.tables import read_table
from sfumato.networks.weights import TRANSFORMERS, find_weights, read_shapes
from sfumato.paths import is_hub_id

#: model_type of config.json -> class of transformers; for dual encoders the class of the image encoder.
VISION = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "vit": "ViTModel",
    "vit_msn": "ViTMSNModel",
    "deit": "DeiTModel",
    "beit": "BeitModel",
    "data2vec-vision": "Data2VecVisionModel",
    "ijepa": "IJepaModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
EFFICIENTNET = "efficientnet-lite0"
"""Name of the LPIPS network that is not a folder."""
CONVOLUTIONS = "features."
"""Beginning of the names of the tensors of torchvision's VGG16, AlexNet and SqueezeNet."""

Name = str | os.PathLike[str]


def named_folder(name: Name) -> Path | None:
    """The local folder with this name; None for a hub id ("org/name").

    Raises:
        BadInput: the name is neither.
    """
    if not os.fspath(name).strip():
        raise BadInput("The name of the network is empty: give a folder in transformers' layout, or a hub id.")
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if is_hub_id(os.fspath(name)):
        return None
    raise BadInput(f"{path} is not a folder: give a folder with a network in transformers' layout, or a hub id.")


def check_clip(name: Name) -> None:
    """Check the preprocessing, the configuration and the headers of the weights of a CLIP; hub ids are not checked.

    Raises:
        BadInput: there is no such folder, or a file is missing, damaged or of another kind.
    """
    folder = named_folder(name)
    if folder is not None:
        read_preprocessor(folder)
        _check_network(folder)


def check_vision(name: Name) -> None:
    """Check a vision transformer, or the image encoder of a CLIP, as `check_clip`. Raises BadInput."""
    folder = named_folder(name)
    if folder is not None:
        _check_vision(folder)


def check_perceptual(name: Name) -> None:
    """Check the name and the folder of an LPIPS network; the values of its weights are not read.

    Raises:
        BadInput: there is no such folder, or a file in it is missing, damaged or of another kind.
    """
    folder = perceptual_folder(name)
    if folder is None:
        return
    for file in sorted(folder.glob("*.safetensors")):
        if any(each.startswith(CONVOLUTIONS) for each in read_shapes(file, folder)):
            return
    check_perceptual_config(folder)
    _check_vision(folder)


def perceptual_folder(name: Name) -> Path | None:
    """The local folder of an LPIPS network; None for a hub id or `EFFICIENTNET`. Raises BadInput for other names."""
    if os.fspath(name) == EFFICIENTNET:
        return None
    try:
        return named_folder(name)
    except BadInput as error:
        raise BadInput(f"the LPIPS network must be '{EFFICIENTNET}' or a folder: {error}") from error


def check_perceptual_config(folder: Path) -> None:
    """Raise BadInput for a folder without config.json, which cannot be an LPIPS network without convolutions."""
    if not has(folder / "config.json"):
        raise BadInput(
            f"the LPIPS network must be '{EFFICIENTNET}' or a folder with a vision transformer or a convolutional "
            f"network of torchvision, and {str(folder)!r} is neither."
        )


def vision_type(folder: Path) -> str:
    """The key in `VISION` of the network in a folder. Raises BadInput for another network."""
    name = read_table(folder / "config.json", folder).get("model_type")
    if not isinstance(name, str) or name not in VISION:
        raise BadInput(
            f"{folder}/config.json has model_type {name!r:.100}, which is not supported: give the folder of one of "
            f"{', '.join(VISION)}."
        )
    return name


def _check_vision(folder: Path) -> None:
    read_statistics(folder)
    vision_type(folder)
    _check_network(folder)


def _check_network(folder: Path) -> None:
    read_table(folder / "config.json", folder)
    find_weights(folder, TRANSFORMERS, folder)
