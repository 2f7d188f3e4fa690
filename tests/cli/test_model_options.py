"""Model options on the command line: in the help of `models`, in outputs and recipes; invalid values are rejected."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from sfumato.cli.model_flags import MODEL_OPTIONS
from sfumato.examples import examples
from sfumato.models.bundled import bundled_parasol
from tests import tiny
from tests.models.lora_made import write_lora


def test_model_options_are_in_the_help_of_models(sfumato):
    shown = sfumato("models", "--help").out
    for flag, settings in MODEL_OPTIONS.items():
        assert f"  {flag} {settings.get('metavar', '')}".rstrip() in shown


def test_model_options_are_used_and_recorded(sfumato, tiny_sd_folder, tmp_path):
    pipe = DiffusionPipeline.from_pretrained(tiny_sd_folder, local_files_only=True)
    lora = write_lora(pipe, tmp_path / "toon.safetensors", "kohya")
    save_file({"<toy>": torch.randn(2, tiny.WIDTH)}, tmp_path / "toy.safetensors")
    common = ["generate", "a (red:1.4) <toy>", "--model", str(tiny_sd_folder), "--steps", "1", "--json", "-o"]
    options = ["--lora", f"{lora}:0.5", "--textual-inversion", str(tmp_path / "toy.safetensors")]
    options += ["--prompt-weights", "--prompt-chunks", "2"]
    plain = json.loads(sfumato(*common, str(tmp_path / "a.png")).out)
    run = sfumato(*common, str(tmp_path / "b.png"), *options)
    found = json.loads(run.out)
    assert run.err == ""
    assert [each["scale"] for each in found["parameters"]["lora"]] == [0.5]
    assert [each["word"] for each in found["parameters"]["textual_inversion"]] == ["<toy>"]
    assert (found["parameters"]["prompt_weights"], found["parameters"]["prompt_chunks"]) == (True, 2)
    assert found["parameters"]["model_fingerprint"] != plain["parameters"]["model_fingerprint"]
    recipe = json.loads(sfumato("recipe", str(tmp_path / "b.png")).out)
    assert "toon.safetensors" in json.dumps(recipe)
    assert str(tmp_path) not in json.dumps(recipe)


FILES = ("--lora", "toon.safetensors:0.5", "--textual-inversion", "toy.safetensors:<toy>", "--steps", 1)
INVERT = ("invert", "photo.png", "--from", "red", *FILES)
FIND = ("directions", "find", "-n", 1, "--samples", 2, *FILES)


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (INVERT, "toon.safetensors"),
        (INVERT, "toy.safetensors"),
        (INVERT, "one.safetensors"),
        ((*INVERT, "--model", "model"), "model/unet/diffusion_pytorch_model.safetensors"),
        (FIND, "toon.safetensors"),
        (FIND, "one.safetensors"),
        (("edit", "photo.png", "--from", "red", "--to", "green", *FILES), "link.png"),
        (("generate", "red", *FILES), "link.png"),
        (("style", "photo.png", "photo.png", "--parasol", str(bundled_parasol("emoji")), *FILES[:4]), "link.png"),
        (("demo", *FILES[:4]), "link.png"),
        (("demo",), examples()[0].path),
    ],
)
def test_files_of_the_model_are_not_overwritten(sfumato, tiny_sd_folder, words, out):
    for name in ("toon", "toy", "one"):
        Path(f"{name}.safetensors").write_bytes(b"weights")
    Path("link.png").symlink_to("toon.safetensors")
    Path("model").symlink_to(tiny_sd_folder)
    model = () if "--model" in words else ("--model", "one.safetensors")
    assert f"{out} is an input of this command" in sfumato(*words, *model, "-o", out).refused()


def test_files_of_another_kind_are_named(sfumato, tiny_sd_folder):
    weights = {"x": torch.zeros(1)}
    model = ("--model", tiny_sd_folder)
    assert sfumato("invert", "photo.png", "-o", "new.safetensors", "--steps", 2, *model).code == 0
    for name, kind in (("old", "sfumato.inversion.1"), ("other", "pt")):
        save_file(weights, f"{name}.safetensors", {"format": kind})
    save_file(weights, "MODEL.SAFETENSORS")
    Path("model.CKPT").touch()
    to = ("--to", "green", "-o", "out.png")
    for words, says in (
        (("edit", "photo.png", "--model", "new.safetensors", *to), "saved (inversion), not a model: give the model"),
        (("edit", "photo.png", "--model", "MODEL.SAFETENSORS", *to), "must end in .safetensors in lower case"),
        (("edit", "photo.png", "--model", "model.CKPT", *to), "is a pickle"),
        (
            ("edit", "photo.png", "--model", "other.safetensors", *to),
            "give a checkpoint of the complete model, or its diffusers folder",
        ),
        (
            ("edit", "photo.png", "--model", tiny_sd_folder, "--config", "x", *to),
            "--config (in Python: config=) is for",
        ),
        (("edit", "other.safetensors", *to), "other.safetensors is a safetensors file, but not an inversion: give an"),
        (("edit", "old.safetensors", *to), "is an inversion of another version of sfumato: invert the image again"),
        (("directions", "list", "new.safetensors"), "(sfumato.inversion.2), but not a set of directions: give a set"),
    ):
        assert says in sfumato(*words).refused(), words


def test_invalid_model_options_give_one_line(sfumato, tiny_sd_folder, tmp_path):
    common = ["generate", "red", "--model", str(tiny_sd_folder), "-o", str(tmp_path / "a.png")]
    for options, says in (
        (["--lora", "none.safetensors"], "There is no LoRA none.safetensors"),
        (["--lora", "a.safetensors:much"], "must be a finite number"),
        (["--textual-inversion", "none.safetensors"], "There is no textual inversion"),
        (["--offload", "--device", "cpu"], "Offloading saves memory of a GPU"),
        (["--prompt-chunks", "0"], "'0' is not an integer"),
    ):
        run = sfumato(*common, *options)
        assert run.code == 2
        assert says in run.err
        assert run.err.count("\n") == 1
