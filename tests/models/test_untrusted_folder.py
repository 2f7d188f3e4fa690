"""Untrusted model folders: no content of a folder makes sfumato load a pickle."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from sfumato.errors import BadInput
from sfumato.models.load import load_model

pytestmark = pytest.mark.usefixtures("read_every_time")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("kind", ["UNet2DConditionModel", "DiffusionPipeline", "AutoencoderKL", "logging"])
def test_scheduler_of_another_class_is_rejected_without_unpickling(tiny_sd_folder, tmp_path, kind):
    folder, target = tmp_path / "model", tmp_path / "executed"
    shutil.copytree(tiny_sd_folder, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", kind]}))
    shutil.copy(folder / "unet" / "config.json", folder / "scheduler" / "config.json")
    (folder / "scheduler" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(BadInput, match=f"no scheduler {kind}"):
        load_model(folder)
    assert not target.exists()
