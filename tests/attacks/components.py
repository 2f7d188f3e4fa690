"""The networks in a model folder and the functions that load them."""

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from sfumato.metrics import DualEncoder, VisionEncoder
from sfumato.models.load import load_model
from sfumato.train.frozen import load_autoencoder, load_frozen
from tests.attacks.guard import Guard

OPEN = functools.partial(load_model, device="cpu")
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"


@dataclass(frozen=True)
class Component:
    """A network in a model folder: the kind of folder, the path of the network in it and the function that loads it."""

    base: str
    part: str
    stem: str
    opens: Callable[[Path], Any]

    def config(self, root: Path) -> Path:
        return root / self.part / "config.json"

    def weights(self, root: Path) -> Path:
        return root / self.part / f"{self.stem}.safetensors"


#: Parts of a pipeline, loaded with the complete pipeline.
PIPELINE = {
    "U-Net": Component("ddpm", "unet", DIFFUSERS, OPEN),
    "VAE": Component("sd", "vae", DIFFUSERS, OPEN),
    "text encoder": Component("sd", "text_encoder", TRANSFORMERS, OPEN),
}
#: Networks as training and the evaluator load them.
ALONE = {
    "autoencoder": Component("sd", "vae", DIFFUSERS, lambda root: load_autoencoder(root / "vae")),
    "text": Component(
        "sd", "text_encoder", TRANSFORMERS, lambda root: load_frozen(CLIPTextModel, root / "text_encoder")
    ),
    "dual encoder": Component("clip", "", TRANSFORMERS, DualEncoder.load),
    "vision": Component("dinov2", "", TRANSFORMERS, VisionEncoder),
}
COMPONENTS = PIPELINE | ALONE
#: One component for each way of loading.
WAYS = {name: COMPONENTS[name] for name in ("U-Net", "autoencoder", "text", "dual encoder", "vision")}


def shard(folder: Path, component: Component, guard: Guard, value: Any, variant: str = "") -> None:
    """Store the weights in two shards with an index that names the second `value`, beside files that it may name."""
    path = component.weights(folder)
    place, weights = path.parent, load_file(path)
    names = list(weights)
    half = len(names) // 2
    save_file({name: weights[name] for name in names[:half]}, place / "one.safetensors", {"format": "pt"})
    second = {name: weights[name] for name in names[half:]}
    (place / "folder").mkdir()
    for each in ("folder/sound.safetensors", "../sound.safetensors"):
        save_file(second, place / each, {"format": "pt"})
    save_file(second, guard.outside / "sound.safetensors", {"format": "pt"})
    (place / "link.safetensors").symlink_to(guard.outside / "sound.safetensors")
    os.mkfifo(place / "pipe.safetensors")
    for each in ("pytorch_model.bin", "weights.pt", "weights.ckpt", "flax_model.msgpack", "tf_model.h5"):
        (place / each).write_bytes((guard.outside / "pickle.bin").read_bytes())
    (place / "weights.gguf").write_bytes(b"GGUF" + bytes(100))
    (place / "weights.py").write_text(f"open({str(guard.mark)!r}, 'w')\n")
    path.unlink()
    listed = dict.fromkeys(names[:half], "one.safetensors") | dict.fromkeys(names[half:], value)
    index = place / f"{component.stem}.safetensors.index{variant}.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
