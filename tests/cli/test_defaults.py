"""The default model, presets, and the defaults that the help prints."""

import json
import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest

from sfumato.cli.composed import composed
from sfumato.cli.defaults import config_folder, values_with
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.images.recipe import read_recipe

EDIT = ("edit", "photo.png", "--from", "red cat", "--to", "green cat", "-o", "out.png")
SETTINGS = {
    "prompt-to-prompt": {"steps": 8, "skip": 2, "guidance_scale": 3.5, "after": {"ddim": {"steps": 6, "skip": 0}}},
    "edit": {"steps": 4, "skip": 1},
}


@pytest.fixture
def model(tiny_sd_folder, folder):
    """A model folder with its own defaults."""
    copy = folder / "model"
    shutil.copytree(tiny_sd_folder, copy)
    (copy / "sfumato.json").write_text(json.dumps(SETTINGS))
    return "model"


def config(text):
    config_folder().mkdir(parents=True, exist_ok=True)
    (config_folder() / "config.toml").write_text(text)


def preset(name, text):
    (config_folder() / "presets").mkdir(parents=True, exist_ok=True)
    (config_folder() / "presets" / f"{name}.toml").write_text(text)


def test_default_model_comes_from_environment_then_config_file(sfumato, model, monkeypatch):
    assert "model     emoji (bundled)" in sfumato("doctor", "--model", model).out
    config('model = "model"\n')
    assert sfumato(*EDIT).code == 0
    assert read_recipe("out.png")["model"] == "model"
    assert re.search(r"default model \(.*config\.toml\)", " ".join(sfumato("edit", "--help").out.split()))
    monkeypatch.setenv("SFUMATO_MODEL", "nosuch")
    assert "no model nosuch" in sfumato(*EDIT).refused()
    assert "default nosuch (SFUMATO_MODEL)" in " ".join(sfumato("edit", "--help").out.split())
    found = sfumato("doctor", "--model", model, "--json").json
    assert found["default_model"] == {"name": "nosuch", "origin": "SFUMATO_MODEL"}
    assert "default emoji" in " ".join(sfumato("demo", "--help").out.split())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model = 3", "must be the name of a model"),
        ("modell = 'x'", "the only setting is model"),
        ("=", "not valid TOML"),
    ],
)
def test_invalid_configuration_is_rejected(sfumato, folder, text, complaint):
    config(text)
    before = {path for path in folder.rglob("*") if path.is_file()}
    run = sfumato(*EDIT)
    assert (run.code, {path for path in folder.rglob("*") if path.is_file()}) == (2, before)
    assert complaint in run.err
    assert "config.toml" in run.err


def test_command_line_overrides_preset_flags(sfumato, model):
    preset(
        "quick",
        f'[edit]\nmodel = "{model}"\nmethod = ["ddim"]\nsteps = 3\nskip = 0\nseed = [1, 2]\nno-recipe = false\n',
    )
    assert sfumato(*EDIT, "--preset", "quick").files == {"out-0.png", "out-1.png"}
    assert [read_recipe(f"out-{n}.png")["seed"] for n in (0, 1)] == [1, 2]
    assert read_recipe("out-0.png")["method"] == "ddim"
    run = sfumato(*EDIT, "--preset", "quick", "--seed", 5, "--method", "edit-friendly", "--eta", 0.5)
    assert run.files == {"out.png"}, run.err
    found = read_recipe("out.png")
    assert {name: found[name] for name in ("seed", "method", "steps", "eta")} == {
        "seed": 5,
        "method": "edit-friendly",
        "steps": 3,
        "eta": 0.5,
    }
    Path("own.toml").write_text(f'[edit]\nmodel = "{model}"\nresidual = true\n')
    assert "no flag --residual" in sfumato(*EDIT, "--preset", "own.toml").refused()


def test_preset_is_based_on_a_recipe(sfumato, model):
    """Its other flags override those of the recipe, and a recipe on the command line overrides the preset."""
    words = ("photo.png", "--from", "red cat", "--model", model)
    for name, steps, seed in (("one", 3, 7), ("two", 5, 8)):
        run = sfumato("edit", *words, "--to", f"{name} cat", "-o", f"{name}.png", "--steps", steps, "--seed", seed)
        assert run.code == 0, run.err
    preset("based", f'[edit]\nmodel = "{model}"\nrecipe = "one.png"\nsteps = 4\nskip = 0\n')

    def made(*words):
        run = sfumato("edit", *words, "-o", "out.png", "--preset", "based")
        assert run.code == 0, run.err
        found = read_recipe("out.png")
        return found["image"]["name"], found["prompt"], found["seed"], found["steps"]

    assert made() == ("photo.png", "one cat", 7, 4)
    assert made("--seed", 0, "--steps", 2) == ("photo.png", "one cat", 0, 2)
    assert made("--recipe", "two.png", "--model", model) == ("photo.png", "two cat", 8, 5)


def test_flags_of_a_preset_are_flags_behind_dashes_too(sfumato, model):
    preset("quick", f'[generate]\nmodel = "{model}"\nsteps = 1\nseed = [1, 2]\nnegative-prompt = "bad"\n')
    run = sfumato("generate", "-o", "g.png", "--json", "--preset", "quick", "red", "--", "-red, noto", "--seed=5")
    assert run.json["parameters"]["prompts"] == ["red"] * 2 + ["-red, noto"] * 2 + ["--seed=5"] * 2
    assert run.json["parameters"]["seeds"] == [1, 2] * 3
    assert run.json["parameters"]["negative_prompt"] == "bad"
    edit = (*EDIT[:1], *EDIT[2:], "--model", model)
    assert sfumato(*edit, "--", "photo.png").code == 0
    again = ("edit", "--recipe", "out.png", "-o", "again.png", "--model", model, "--", "photo.png")
    assert sfumato(*again).files == {"again.png"}
    assert read_recipe("again.png")["prompt"] == "green cat"


def test_command_line_overrides_a_preset_under_all_names_of_a_flag(sfumato, model):
    preset(
        "two",
        f'[edit]\nmodel = "{model}"\nsteps = 2\nout = "no.png"\n"prompt-to-prompt.self-steps" = 0.5\nseed = [1, 2]\n',
    )
    methods = ("--method", "prompt-to-prompt", "--method", "colour", "--colour", "red")
    run = sfumato(*EDIT[:-2], "-oout.png", "--preset", "two", *methods, "--self-steps", 0, "--seed", 4)
    assert run.files == {"out.png"}, run.err
    assert (read_recipe("out.png")["methods"][0]["self_steps"], read_recipe("out.png")["seed"]) == (0, 4)


def test_several_presets_and_flags_with_two_values(sfumato, model):
    preset("one", f'[interpolate]\nmodel = "{model}"\nfrom = ["cat", "dog"]\nsteps = 1\nframes = 3\n')
    preset("two", "[interpolate]\nframes = 2\n")
    run = sfumato("interpolate", "photo.png", "photo.png", "-o", "film", "--preset", "one", "--preset", "two", "--json")
    assert run.code == 0, run.err
    assert run.json["parameters"]["frames"] == 2
    assert run.json["parameters"]["prompts"] == ["cat", "dog"]


def test_preset_sets_boolean_flags(sfumato, model):
    preset("off", f'[edit]\nmodel = "{model}"\nmethod = "pullback"\nnormalise = false\nno-residual = true\nsteps = 3\n')
    assert sfumato(*EDIT, "--preset", "off").code == 0
    found = read_recipe("out.png")
    assert (found["normalise"], found["residual"]) == (False, False)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "there is no preset p"),
        ("[sweep]\nsteps = 3\n", "has no table [edit]"),
        ("[edit]\nstepz = 3\n", "did you mean '--steps'"),
        ("[edit]\nsteps = {a = 1}\n", "must be a text, a number"),
        ("[edit]\nsteps = 'many'\n", "'many' is not an integer"),
        ("[edit]\nsteps = 0\n", "between 1 and 1000"),
        ("[edit]\nsteps = false\n", "has steps = false, but --steps takes a value"),
        ("[edit]\nmask = true\n", "has mask = true, but --mask takes a value"),
        ("[edit]\nseed = false\n", "has seed = false, but --seed takes a value"),
        ("[edit]\npreset = 'q'\n", "has 'preset', which is read before presets: give --preset"),
        ("[edit]\ndebug = true\n", "has 'debug', which is read before presets: give --debug"),
    ],
)
def test_invalid_preset_is_rejected(sfumato, text, complaint):
    if text is not None:
        preset("p", text)
    assert complaint in sfumato(*EDIT, "--preset", "p").refused()


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ((), {"steps": 8, "skip": 2, "guidance": 3.5}),
        (("--inversion", "ddim"), {"steps": 6, "skip": 0}),
        (("--steps", "4"), {"skip": 1}),
    ],
)
def test_help_prints_the_defaults_that_the_run_uses(sfumato, model, typed, wanted):
    words = ("--model", model, "--method", "prompt-to-prompt", *typed)
    lines = re.split(r"\n  (?=--)", sfumato("edit", "--help", *words).out)
    shown = {line.split()[0][2:]: " ".join(line.split()) for line in lines if line.startswith("--")}
    assert "prompt-to-prompt (defaults of model)" in sfumato("edit", "--help", *words).out
    assert sfumato(*EDIT, *words).code == 0
    recipe = read_recipe("out.png")
    for name, value in wanted.items():
        assert f"default {value:g}" in shown[name]
        assert recipe["guidance_scale" if name == "guidance" else name] == value


def test_methods_lists_the_defaults_of_the_model(sfumato, model):
    listed = sfumato("methods", "prompt-to-prompt", "--model", model, "--json").json
    assert listed["defaults"] == "defaults of model"
    found = {each["name"]: each["default"] for each in listed["parameters"]}
    assert (found["steps"], found["skip"], found["guidance_scale"], found["self_steps"]) == (8, 2, 3.5, 0.2)
    assert "defaults of the method" in sfumato("methods", "prompt-to-prompt", "--model", "org/name").out


def test_model_without_text_has_guidance_scale_one(tiny_ddpm_folder):
    method = METHODS.find("ddim")
    values, _ = values_with(str(tiny_ddpm_folder), method.params, method.section, {})
    assert (values["guidance_scale"], values["source_guidance_scale"]) == (1.0, 1.0)


def test_negative_prompt_is_checked_with_the_defaults_of_the_model(folder, tiny_sd_folder):
    """Without them, the guidance scale of pullback is 1."""

    def methods(model):
        return composed(Namespace(images=["photo.png"], model=model, config=None), ["pullback"])

    shutil.copytree(tiny_sd_folder, "tuned")
    with pytest.raises(BadInput, match="no effect at guidance scale 1"):
        methods("tuned").check_negative("grey")
    (folder / "tuned" / "sfumato.json").write_text('{"pullback": {"guidance_scale": 3}}')
    methods("tuned").check_negative("grey")
    methods("org/name").check_negative("grey")  # a hub id, whose defaults are not known


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"edit": {"steps": 0}}, "sfumato.json of model, edit: steps must be between 1 and 1000, not 0"),
        ({"edit": {"steps": "many"}}, "sfumato.json of model, edit: steps must be"),
        ({"edit": {"after": 3}}, "sfumato.json of model, edit: 'after' must be a JSON object"),
        ({"diffuseit": {"vit_folder": "."}}, "sfumato.json of model, diffuseit: vit_folder is the path of a file"),
    ],
)
def test_invalid_defaults_of_the_model_are_refused_early(sfumato, model, settings, complaint, monkeypatch):
    """Before their values are used; `--help` shows the defaults of the method then."""
    Path(model, "sfumato.json").write_text(json.dumps(settings))
    monkeypatch.setattr("sfumato.load", None)
    (section,) = settings
    words = ("--model", model, "--method", "edit-friendly" if section == "edit" else section)
    assert complaint in sfumato(*EDIT, *words).refused()
    assert "(defaults of the method)" in sfumato("edit", "--help", *words).out


def test_values_are_checked_with_the_defaults_of_the_model_before_it_is_loaded(sfumato, model, monkeypatch):
    monkeypatch.setattr("sfumato.load", None)
    words = (*EDIT, "--method", "prompt-to-prompt", "--method", "colour", "--skip", 8)
    assert (
        "skip must be between 0 and 7, one less than the 8 steps, not 8" in sfumato(*words, "--model", model).refused()
    )
