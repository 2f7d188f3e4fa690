"""The rows of a benchmark: files, defaults, keys and invalid input."""

import hashlib
import json
import re
from dataclasses import asdict, replace

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

import sfumato
from sfumato.bench import settings
from sfumato.bench.settings import (
    PIPELINES,
    UNCHANGED,
    Setting,
    compared,
    default_settings,
    read_settings,
    resolved,
)
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.options.parasol import ParasolParams
from tests import tiny
from tests.bench.small import OURS, SDEDIT
from tests.models.lora_made import write_lora


@pytest.mark.parametrize(("kind", "usable"), [("sd", True), ("sd2", True), ("sdxl", False), ("ddpm", False)])
def test_pipelines_of_diffusers_are_compared_with_text_to_image_models_only(kind, usable, tiny_folder):
    model = sfumato.load(tiny_folder(kind))
    names = [each.name for each in default_settings(model)]
    assert all((name in names) is usable for name in PIPELINES)
    for name in () if usable else PIPELINES:
        with pytest.raises(BadInput, match="is not a Stable Diffusion folder"):
            resolved(Setting(name, name), model)


def test_rows_are_read_from_a_file(tmp_path, model):
    file = tmp_path / "rows.toml"
    file.write_text(
        '[[row]]\nname = "a"\nmethod = "edit-friendly"\nskip = 2\nsteps = 4\nseed = 3\n'
        '[[row]]\nname = "b"\nmethod = "diffusers-img2img"\n'
    )
    first, second = (resolved(each, model) for each in read_settings(file))
    assert (first.name, first.seed, first.residual) == ("a", 3, True)
    assert (first.params["skip"], first.params["steps"], first.params["eta"]) == (2, 4, 1.0)
    assert set(second.params) == set(PIPELINES["diffusers-img2img"])


def test_key_depends_on_everything_but_the_name():
    assert OURS.key == replace(OURS, name="other").key
    others = [
        replace(OURS, method="ddim"),
        replace(OURS, seed=1),
        replace(OURS, residual=False),
        replace(OURS, params={"steps": 4}),
    ]
    assert len({each.key for each in (OURS, *others)}) == 5


def test_keys_without_files_are_stable(model):
    """Journals store the keys: SHA-256 of the JSON of method, all parameters, seed and residual."""
    setting = resolved(OURS, model)
    said = json.dumps([setting.method, dict(setting.params), 0, True], sort_keys=True)
    assert setting.key == hashlib.sha256(said.encode()).hexdigest()[:12]
    assert Setting(UNCHANGED, UNCHANGED).key == "84296155c773"


def test_key_depends_on_file_content_not_path(model, tmp_path):
    bank, copy, other = (tmp_path / f"{name}.txt" for name in ("bank", "copy", "other"))
    bank.write_text("a cat\na small cat\n")
    copy.write_text(bank.read_text())
    other.write_text("a dog\na small dog\n")

    def key(source):
        params = {"steps": 3, "source_bank": str(source), "target_bank": str(other)}
        return resolved(Setting("banks", "pix2pix-zero", params), model).key

    first = key(bank)
    assert key(copy) == first
    assert key(other) != first
    bank.write_text("a cow\na small cow\n")
    assert key(bank) != first


def test_key_depends_on_files_named_in_parameters(model, tmp_path):
    """A PARASOL file, style images with weights, and the folder of an encoder."""
    first, second = tmp_path / "a.png", tmp_path / "a.png.png"  # one path is a prefix of the other
    for file in (first, second):
        file.write_bytes(file.name.encode())
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "weights").write_bytes(b"one")

    def key(style):
        params = ParasolParams(parasol=str(first), style=style, content_encoder=str(folder))
        return Setting("mine", "parasol", asdict(params), files=settings._files(params)).key

    style = f"{first}=2,{second}=1"
    keys = [key(style), key(f"{second}=2,{first}=1"), key(f"{first}=3,{second}=1")]
    second.write_bytes(b"changed")
    keys.append(key(style))
    (folder / "weights").write_bytes(b"two")
    keys.append(key(style))
    assert len(set(keys)) == 5
    moved = tmp_path / "moved.png"
    moved.write_bytes(second.read_bytes())
    assert key(f"{first}=2,{moved}=1") == keys[-1]


def test_one_setting_under_two_names_is_refused(model):
    twice = [OURS, SDEDIT, replace(OURS, name="again", params={**OURS.params, "eta": 1.0})]
    with pytest.raises(BadInput, match="rows 'ours' and 'again' are one setting under two names"):
        compared(twice, model)
    assert compared(twice[:2], model) == [resolved(each, model) for each in twice[:2]]


def test_default_settings_cover_all_prompt_methods_and_diffusers(model):
    settings = default_settings(model)
    by_text = {name for name, each in METHODS.items() if "condition" in each.handles and not each.params.needs}
    assert {"edit-friendly", "sdedit", "prompt-to-prompt"} <= by_text
    assert not {"colour", "shift", "objects", "parasol"} & by_text
    assert {each.method for each in settings} == {UNCHANGED, *by_text, *PIPELINES}
    assert len({each.name for each in settings}) == len(settings)
    assert len({resolved(each, model).key for each in settings}) == len(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row = 1", r"\[\[row\]\]"),
        ("[other]\na = 1", r"\[\[row\]\]"),
        ("[[row]", "TOML"),
        ("row = []", "has no rows"),
        ('[[row]]\nname = "a"', "a name and a method"),
        ('[[row]]\nname = "a"\nmethod = "magic"', "no method 'magic'"),
        ('[[row]]\nname = "a"\nmethod = "ddim"\nseed = "x"', "row 'a': seed must be an integer"),
        ('[[row]]\nname = "a"\nmethod = "ddim"\nseed = -1', "row 'a': seed must be an integer of at least 0, not -1"),
        ('[[row]]\nname = "a"\nmethod = "ddim"\nresidual = 1', "row 'a': residual must be true or false"),
        ('[[row]]\nname = "a"\nmethod = "ddim"\nseed = 100000000000000000000', "seed must lie between"),
        ('[[row]]\nname = "a"\nmethod = "ddim"\n[[row]]\nname = "a"\nmethod = "ddim"', "two rows called 'a'"),
    ],
)
def test_invalid_settings_files_are_refused(tmp_path, text, message):
    (tmp_path / "rows.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_settings(tmp_path / "rows.toml")


def test_unchanged_has_no_options(model):
    with pytest.raises(BadInput, match=r"row 'mine': unchanged has no options"):
        resolved(Setting("mine", UNCHANGED, {"steps": 3}), model)


@pytest.mark.parametrize("method", [UNCHANGED, *PIPELINES])
def test_rows_that_ignore_residual_refuse_it(model, method):
    assert resolved(Setting("mine", method), model).residual
    with pytest.raises(
        BadInput, match=f"row 'mine': {re.escape(method)} never adds the residual .*: leave residual out"
    ):
        resolved(Setting("mine", method, residual=False), model)


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["prompt_weights"], "--prompt-weights"),
        (["prompt_chunks"], "--prompt-chunks"),
        (["lora", "textual_inversion"], "--lora, --textual-inversion"),
    ],
)
def test_pipelines_are_refused_for_a_model_with_additions(tiny_sd_folder, tmp_path, options, flags):
    """diffusers' pipelines load the folder and would not use these options."""
    pipe = DiffusionPipeline.from_pretrained(tiny_sd_folder, local_files_only=True)
    write_lora(pipe, tmp_path / "lora.safetensors", "kohya")
    save_file({"<toy>": torch.zeros(1, tiny.WIDTH)}, tmp_path / "toy.safetensors")
    values = {"prompt_weights": True, "prompt_chunks": 2}
    values |= {"lora": tmp_path / "lora.safetensors", "textual_inversion": tmp_path / "toy.safetensors"}
    changed = sfumato.load(tiny_sd_folder, **{name: values[name] for name in options})
    for method in PIPELINES:
        with pytest.raises(
            BadInput, match=f"row 'mine': {re.escape(method)} loads .* without {flags}: remove this row"
        ):
            resolved(Setting("mine", method), changed)
    methods = {each.method for each in default_settings(changed)}
    assert {UNCHANGED, "edit-friendly"} <= methods
    assert not methods & set(PIPELINES)
    assert resolved(OURS, changed).params["skip"] == 1


@pytest.mark.parametrize("method", ["edit-friendly", *PIPELINES])
def test_parameter_errors_name_the_row(model, method):
    with pytest.raises(BadInput, match=r"row 'mine': .*no option 'colour'"):
        resolved(Setting("mine", method, {"colour": 3}), model)
    with pytest.raises(BadInput, match=r"row 'mine': .*steps"):
        resolved(Setting("mine", method, {"steps": 0}), model)


def test_diffusers_needs_a_stable_diffusion_folder(tiny_ddpm_folder):
    other = sfumato.load(tiny_ddpm_folder)
    with pytest.raises(BadInput, match="not a Stable Diffusion folder"):
        resolved(SDEDIT, other)
    assert not {each.method for each in default_settings(other)} & set(PIPELINES)
