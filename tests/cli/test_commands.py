"""The other commands: generate, demo, models, methods, doctor, data."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from sfumato.api import load
from sfumato.api.finding import search_directions
from sfumato.examples import examples
from sfumato.metrics.evaluator import SHIPPED
from sfumato.models import bundled


def test_generate_writes_one_file_for_each_prompt_and_seed(sfumato, tiny_sd_folder):
    run = sfumato(
        "generate", "red apple", "green apple", "--seed", 1, 2, "-o", "g.png", "--model", tiny_sd_folder,
        "--steps", 3, "--size", "32x16", "--dtype", "bf16", "--json",
    )  # fmt: skip
    assert run.code == 0, run.err
    found = run.json
    assert found["outputs"] == ["g-0.png", "g-1.png", "g-2.png", "g-3.png"]
    assert found["parameters"]["prompts"] == ["red apple", "red apple", "green apple", "green apple"]
    assert found["parameters"]["seeds"] == [1, 2, 1, 2]
    assert found["network_evaluations"] == 2 * 3 * 4
    for path in found["outputs"]:
        with Image.open(path) as image:
            assert image.size == (32, 16)
    recipe = sfumato("recipe", "g-2.png").json
    assert (recipe["prompt"], recipe["seed"], recipe["steps"]) == ("green apple", 1, 3)
    assert (recipe["dtype"], recipe["device"]) == ("bfloat16", "cpu")


def test_flags_with_several_values_collect_them(sfumato, tiny_sd_folder):
    words = ("-o", "g.png", "--model", tiny_sd_folder, "--steps", 1, "--json")
    run = sfumato("generate", "red apple", "--seed", 4, "--seed", 5, 6, *words)
    assert run.json["parameters"]["seeds"] == [4, 5, 6]
    words = ("-o", "d.safetensors", "--model", tiny_sd_folder, "--steps", 1, "-n", 2, "--samples", 4, "--json")
    found = sfumato("directions", "find", "--prompt", "cat", "--prompt", "dog", *words, "--names", "a", "--names=b")
    assert [each["name"] for each in found.json["directions"]] == ["a", "b"]
    assert found.json["prompts"] == ["cat", "dog"]
    assert sfumato("demo", "--only", "heart", "--only", "nosuch").refused()


WITH_RECIPES = {
    "film/frame-01.png": ("interpolate", "photo.png", "photo.png", "-o", "film", "--frames", 2, "--steps", 1),
    "out.png": ("directions", "apply", "photo.png", "d.safetensors", "-o", "out.png", "--no-normalise"),
    "swept/edits/000.png": ("sweep", "photo.png", "--to", "red", "-o", "swept", "--grid", "skip=0", "--steps", 1),
}


@pytest.mark.parametrize("path", WITH_RECIPES)
def test_no_recipe_option_omits_the_recipe(sfumato, tiny_sd_folder, path):
    words = ("--clip", SHIPPED, "--pareto", "psnr", "ssim") if "swept" in path else ()
    if path == "out.png":
        model = load(str(tiny_sd_folder), "cpu")
        search_directions(model, ["cat"], n=1, samples=2, steps=1, size=(32, 24)).save("d.safetensors")
    run = sfumato(*WITH_RECIPES[path], *words, "--no-recipe", "--model", tiny_sd_folder)
    assert run.code == 0, run.err
    assert "no sfumato recipe" in sfumato("recipe", path).refused()


def test_generate_prints_the_output_path(sfumato, tiny_sd_folder):
    run = sfumato("generate", "red apple", "-o", "g.png", "--model", tiny_sd_folder, "--steps", 2, "--no-recipe")
    assert "g.png" in run.out
    assert run.files == {"g.png"}
    assert "no sfumato recipe" in sfumato("recipe", "g.png").refused()


def test_generate_without_text_input(sfumato, tiny_ddpm_folder):
    run = sfumato("generate", "-o", "g.png", "--model", tiny_ddpm_folder, "--steps", 2)
    assert run.code == 0, run.err


@pytest.fixture
def quick_model(tiny_sd_folder, tmp_path_factory):
    """A model whose default numbers of steps are small."""
    copy = tmp_path_factory.mktemp("model") / "quick"
    shutil.copytree(tiny_sd_folder, copy, copy_function=os.link)
    settings = {"edit": {"steps": 4, "skip": 1}, "generate": {"steps": 2}, "summary": "quick"}
    (copy / "sfumato.json").write_text(json.dumps(settings))
    return copy


def test_demo_creates_the_folder_and_one_sheet(sfumato, quick_model):
    run = sfumato("demo", "--model", quick_model, "--out", "new/folder/demo.png")
    assert run.code == 0, run.err
    assert run.files == {"new/folder/demo.png"}
    for example in examples():
        assert f"{example.source} -> {example.target}" in run.out
    assert "largest latent error of the reconstruction" in run.out
    recipe = sfumato("recipe", "new/folder/demo.png")
    assert (recipe.json["model"], recipe.json["operation"]) == (quick_model.name, "demo")
    assert str(quick_model.parent) not in recipe.out
    with Image.open("new/folder/demo.png") as sheet:
        assert sheet.width > 3 * 128
        assert sheet.height > len(examples()) * 128


def test_demo_json_output(sfumato, quick_model):
    found = sfumato("demo", "--model", quick_model, "--out", "demo.png", "--only", "heart", "fox", "--json").json
    assert found["parameters"]["prompts"] == ["blue heart, twemoji", "wolf, noto"]
    assert found["parameters"]["steps"] == 4
    assert found["reconstruction_latent_max_error"] < 1e-3
    assert len(found["metrics"]["reconstruction_psnr"]) == 2


def test_examples_are_small_rgb_images_on_white():
    for example in examples():
        with Image.open(example.path) as image:
            assert (image.size, image.mode, image.info) == ((128, 128), "RGB", {})
            pixels = np.asarray(image)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (border == 255).all()
        assert pixels.min() < 128


def test_models_lists_the_bundled_models(sfumato, quick_model, monkeypatch):
    monkeypatch.setattr(bundled, "BUNDLED", quick_model.parent)
    assert "quick" in sfumato("models").out
    assert sfumato("models", "path", "quick").out == f"{quick_model}\n"
    assert sfumato("models", "--json").json["models"][0]["summary"] == "quick"
    assert sfumato("models", "path", "quick", "--json").json["folder"] == str(quick_model)


def test_models_reports_that_none_is_bundled(sfumato, tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path)
    run = sfumato("models")
    assert (run.code, run.out) == (0, "")
    assert "no model" in run.err


def test_methods_lists_parameters_and_handles(sfumato):
    listed = sfumato("methods").out
    line = next(line for line in listed.splitlines() if line.startswith("edit-friendly "))
    assert "condition, noise map" in line
    one = sfumato("methods", "edit-friendly").out
    assert "--source-guidance" in one
    assert "between 1 and 1000" in one
    names = [parameter["name"] for parameter in sfumato("methods", "edit-friendly", "--json").json["parameters"]]
    assert {"steps", "skip", "guidance_scale", "source_guidance_scale", "eta"} <= set(names)
    assert "modifies: condition, noise map" in one
    found = {each["name"]: each for each in sfumato("methods", "pix2pix-zero", "--json").json["parameters"]}
    assert found["inversion"]["choices"] == ["edit-friendly", "ddim", "native-ddpm", "regularised"]
    assert found["skip"]["after"] == {"edit-friendly": 12}
    assert (found["scale"]["choices"], found["scale"]["after"]) == ([], {})
    assert sfumato("methods", "ddim", "--json").json["handles"] == ["condition"]
    found = sfumato("methods", "--json").json
    assert {"edit-friendly": ["condition", "noise map"]}.items() <= {
        m["name"]: m["handles"] for m in found["methods"]
    }.items()
    assert found["unloaded"] == []


def test_broken_third_party_method_does_not_stop_commands(sfumato, install_method, tiny_sd_folder):
    install_method("thirdparty", "added", before="import nosuchmodule")
    for words in (("methods",), ("methods", "--json"), ("doctor", "--model", tiny_sd_folder)):
        run = sfumato(*words)
        assert run.code == 0
        assert "edit-friendly" in run.out
        assert "'added' of the package thirdparty" in run.err
        assert "No module named 'nosuchmodule'" in run.err
        assert len(run.err.splitlines()) == 1
    found = sfumato("methods", "--json").json["unloaded"]
    assert found[0] | {"reason": ""} == {"what": "method", "name": "added", "package": "thirdparty", "reason": ""}
    edit = ("edit", "photo.png", "--from", "red", "--to", "green", "-o", "out.png", "--model", tiny_sd_folder)
    assert "thirdparty cannot be loaded (ModuleNotFoundError" in sfumato(*edit, "--method", "added").refused()
    run = sfumato(*edit, "--steps", 2)
    assert (run.code, run.err) == (0, "")


def test_doctor_reconstructs_an_image(sfumato, tiny_sd_folder):
    run = sfumato("doctor", "--model", tiny_sd_folder, "--device", "cpu")
    assert run.code == 0, run.out
    assert "torch" in run.out
    assert "works" in run.out
    found = sfumato("doctor", "--model", tiny_sd_folder, "--json").json
    assert found["check"]["reconstruction_latent_max_error"] <= 1e-6


def test_doctor_reports_missing_extra_with_install_command(sfumato, tiny_sd_folder, monkeypatch):
    from sfumato.cli import doctor

    monkeypatch.setattr(doctor, "requires", lambda package: ["torch>=2", "nosuch-thing>=1; extra == 'fancy'"])
    out = sfumato("doctor", "--model", tiny_sd_folder).out
    assert "pip install 'sfumato[fancy]'" in out
    assert "nosuch-thing missing" in out


def test_doctor_fails_for_a_missing_model(sfumato):
    run = sfumato("doctor", "--model", "nosuch")
    assert run.code == 1
    assert "FAILS" in run.out
    assert run.err == "sfumato: the self-check failed.\n"
    assert sfumato("doctor", "--model", "nosuch", "--json").json["check"]["works"] is False


def test_data_emoji_passes_its_arguments_to_build(sfumato, monkeypatch, tmp_path):
    from sfumato.data import emoji

    asked = {}

    def build(out, **options):
        asked.update(options, out=out)
        return emoji.BuildReport(7, {"noto": 7}, {}, ["noto/x: broken"], 32, "none", {}, False)

    monkeypatch.setattr(emoji, "build", build)
    run = sfumato("data", "emoji", "--out", "corpus/here", "--styles", "noto", "--size", 32, "--limit", 7, "--flags")
    assert run.code == 0
    assert "7 images of 32 pixels in corpus/here" in run.out
    assert "1 drawings could not be rendered" in run.out
    assert str(asked.pop("out")) == "corpus/here"
    assert str(asked.pop("cache")) == "corpus/cache"
    expected = {
        "styles": ["noto"],
        "sharealike": False,
        "flags": True,
        "pypi": False,
        "size": 32,
        "limit": 7,
        "workers": 2,
    }
    assert asked == expected
    assert sfumato("data", "emoji", "--json").json["images"] == 7
