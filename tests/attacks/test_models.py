"""Model folders made to run code: each is loaded or refused with one sentence, and none of the code runs."""

import json
import os
import shutil
from typing import Any

import pytest

from sfumato.errors import BadInput
from sfumato.metrics import DualEncoder, VisionEncoder
from tests.attacks import malicious as bad
from tests.attacks.components import ALONE, COMPONENTS, OPEN


@pytest.mark.parametrize("name", COMPONENTS)
def test_valid_folder_is_loaded(name, copy, guard):
    assert not guard(lambda: COMPONENTS[name].opens(copy(COMPONENTS[name].base)))


@pytest.mark.parametrize("base", ["sd", "clip"])
def test_hub_cache_is_loaded_but_foreign_links_are_refused(base, bases, tmp_path, guard):
    """snapshots/REVISION/... are links to blobs/HASH; a link to another repository's blobs is refused."""
    repository, other = tmp_path / "hub/models--some--model", tmp_path / "hub/models--some--other/blobs"
    snapshot = repository / "snapshots" / "0123abc"
    (repository / "blobs").mkdir(parents=True)
    other.mkdir(parents=True)
    for number, path in enumerate(sorted(each for each in bases[base].rglob("*") if each.is_file())):
        shutil.copy(path, repository / "blobs" / str(number))
        link = snapshot / path.relative_to(bases[base])
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(repository / "blobs" / str(number), link.parent))
    opens = COMPONENTS["VAE" if base == "sd" else "dual encoder"].opens
    assert not guard(lambda: opens(snapshot))
    link = next(snapshot.rglob("*.safetensors"))
    shutil.move(link.resolve(), other / "blob")
    link.unlink()
    link.symlink_to(other / "blob")
    assert "a symbolic link to a place outside" in guard(lambda: opens(snapshot))


def test_links_inside_and_to_the_folder_are_followed(copy, tmp_path, guard):
    root = copy("sd")
    shutil.move(root / "unet", root / "store")
    (root / "unet").symlink_to("store")
    (tmp_path / "named").symlink_to(root)
    assert not guard(lambda: OPEN(tmp_path / "named"))


ENTRIES: dict[str, Any] = {
    "a module": [bad.MODULE, "Model"],
    "a module with our class": [bad.MODULE, None],
    "the system": ["os", "system"],
    "a process": ["subprocess", "Popen"],
    "a pipeline": ["diffusers", "DiffusionPipeline"],
    "any class": ["transformers", "AutoModel"],
    "any tokenizer": ["transformers", "AutoTokenizer"],
    "a path": ["diffusers", f"../{bad.MODULE}"],
    "a dotted path": ["diffusers", f"models.{bad.MODULE}.Model"],
    "an attribute": ["diffusers", "__loader__"],
    "a class as a list": ["diffusers", [bad.MODULE, "Model"]],
    "a text": f"{bad.MODULE}.Model",
    "a letter": "a",
    "a number": 5,
    "an object": {"0": bad.MODULE, "1": "Model"},
    "one name": [bad.MODULE],
    "three names": [bad.MODULE, "Model", "x"],
    "true": True,
    "a name without end": [bad.MODULE, "a" * 1_000_000],
}
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def named(entry: Any, index: dict[str, Any], part: str) -> Any:
    """The entry, with a missing class (None) replaced by the right one; that entry must be accepted."""
    return [entry[0], index[part][1]] if isinstance(entry, list) and None in entry else entry


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["folder", "single file"])
def test_only_known_classes_are_loaded(part, entry, how, copy, guard):
    folder = copy("sd")
    index = json.loads((folder / "model_index.json").read_text())
    bad.change_json(folder / "model_index.json", **{part: named(ENTRIES[entry], index, part)})
    if how == "folder":
        said = guard(lambda: OPEN(folder))
    else:
        path = copy("single") / "model.safetensors"
        said = guard(lambda: OPEN(path, config=folder))
    assert bool(said) == (entry != "a module with our class")


@pytest.mark.parametrize(
    "name", [f"{bad.MODULE}.Pipeline", [bad.MODULE, "Pipeline"], bad.MODULE, "DiffusionPipeline", 5]
)
@pytest.mark.parametrize("how", ["folder", "single file"])
def test_class_name_of_the_pipeline_is_ignored(name, how, copy, guard):
    folder = copy("sd")
    (folder / f"{bad.MODULE}.py").write_text(f"open({str(guard.mark)!r}, 'w')\n")
    (folder / "pipeline.py").write_text(f"open({str(guard.mark)!r}, 'w')\n")
    bad.change_json(folder / "model_index.json", _class_name=name)
    config = {} if how == "folder" else {"config": folder}
    path = folder if how == "folder" else copy("single") / "model.safetensors"
    assert not guard(lambda: OPEN(path, **config))


@pytest.mark.parametrize(
    "model_type", [bad.MODULE, "vit_mae", "bert", "gpt2", "", None, 5, ["vit"], {"vit": 1}, "clip/../x"]
)
@pytest.mark.parametrize("code", [{}, bad.DEMANDS["code"]])
def test_unknown_vision_model_type_is_refused(model_type, code, copy, guard):
    folder = copy("dinov2")
    (folder / f"{bad.MODULE}.py").write_text(f"open({str(guard.mark)!r}, 'w')\n")
    bad.change_json(folder / "config.json", model_type=model_type, **code)
    assert "model_type" in guard(lambda: VisionEncoder(folder))


@pytest.mark.parametrize("demand", bad.DEMANDS)
@pytest.mark.parametrize("name", ALONE)
def test_unknown_config_entries_are_ignored(name, demand, copy, guard):
    component = ALONE[name]
    folder = copy(component.base)
    (folder / component.part / f"{bad.MODULE}.py").write_text(f"open({str(guard.mark)!r}, 'w')\n")
    (folder / component.part / "pytorch_model.bin").write_bytes((guard.outside / "pickle.bin").read_bytes())
    changes = bad.DEMANDS[demand]
    bad.change_json(component.config(folder), **changes)
    if name == "dual encoder":
        for encoder in ("text_config", "vision_config"):
            bad.change_json(component.config(folder), encoder, **changes)
    said = guard(lambda: component.opens(folder))
    assert bool(said) == (name == "autoencoder" and "_class_name" in changes)


@pytest.mark.parametrize("demand", bad.DEMANDS)
def test_unknown_unet_config_entries_are_ignored(demand, copy, guard):
    folder = copy("ddpm")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes((guard.outside / "pickle.bin").read_bytes())
    bad.change_json(folder / "unet/config.json", **bad.DEMANDS[demand])
    assert not guard(lambda: OPEN(folder))


@pytest.mark.parametrize("part", ["text_encoder", "unet", "."])
@pytest.mark.parametrize("base", ["sd", "clip", "dinov2"])
def test_adapter_config_in_the_folder_is_ignored(base, part, copy, guard):
    folder = copy(base)
    place = folder / part
    place.mkdir(exist_ok=True)
    table = {
        "base_model_name_or_path": str(guard.outside),
        "peft_type": "LORA",
        "task_type": None,
        "auto_mapping": bad.MODULE,
    }
    (place / "adapter_config.json").write_text(json.dumps(table))
    (place / "adapter_model.bin").write_bytes((guard.outside / "pickle.bin").read_bytes())
    opens = {"sd": OPEN, "clip": DualEncoder.load, "dinov2": VisionEncoder}[base]
    assert not guard(lambda: opens(folder))


@pytest.mark.parametrize("value", ["xielu", bad.MODULE, "os.system", "", None, 5, ["gelu"], "gelu" * 100])
@pytest.mark.parametrize("name", ["text", "dual encoder", "vision"])
def test_unknown_activation_is_refused(name, value, copy, guard):
    """transformers imports the package `xielu` for the activation of that name."""
    component = ALONE[name]
    folder = copy(component.base)
    inside = ("text_config",) if name == "dual encoder" else ()
    bad.change_json(component.config(folder), *inside, hidden_act=value)
    assert guard(lambda: component.opens(folder))


def test_invalid_hub_repository_name_is_refused(guard, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ("a--b/c", "a/b.git", "a/b..c"):
        with pytest.raises(BadInput):
            OPEN(name)
    assert not guard.noticed
