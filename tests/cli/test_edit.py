"""`sfumato edit`, `invert` and `recipe`, on tiny models."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato import kept_files, load, text_files
from sfumato.images import read
from sfumato.images.recipe import read_recipe
from sfumato.inversion import Inversion
from sfumato.methods.edit_friendly import EditFriendlyParams
from sfumato.metrics.evaluator import SHIPPED
from sfumato.models import conditioning
from sfumato.networks import weights
from sfumato.options.params import Params

FAST = ("--steps", 6, "--skip", 1)


@pytest.fixture
def edit(sfumato, tiny_sd_folder):
    """An edit of photo.png with a tiny Stable Diffusion."""

    def run(*words, out="out.png", image="photo.png"):
        prompts = ("--from", "red apple", "--to", "green apple")
        return sfumato("edit", image, *prompts, "-o", out, "--model", tiny_sd_folder, *FAST, *words)

    return run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).copy()


def test_edit_keeps_the_size_and_prints_the_output_path(edit):
    run = edit()
    assert run.code == 0, run.err
    assert run.files == {"out.png"}
    assert "out.png" in run.out
    assert "network evaluations" in run.out
    assert run.err == ""
    assert pixels("out.png").shape == (22, 30, 3)


def test_json_reports_parameters_metrics_and_cost(edit):
    found = edit("--json", "--guidance", 3, "--source-guidance", 2, "--eta", 0.5).json
    assert found["seconds"] > 0
    assert 0 <= found["reconstruction_latent_max_error"] < 1e-3
    assert found["outputs"] == ["out.png"]
    assert len(found["metrics"]["edit_psnr"]) == 1
    used = found["parameters"]
    assert (used["steps"], used["skip"], used["eta"], used["source_guidance_scale"]) == (6, 1, 0.5, 2)
    assert used["guidance_scale"] == [3]
    assert (used["device"], used["dtype"], used["versions"]["torch"]) == ("cpu", "float32", torch.__version__)
    assert (used["source_prompt"], used["prompts"], used["seeds"]) == ("red apple", ["green apple"], [0])
    # guidance pairs: 6 steps to invert, 6 to check the reconstruction, 5 to edit
    assert found["network_evaluations"] == 2 * (6 + 6 + 5)


def test_reconstruction_error_is_printed_only_with_check(edit):
    assert "largest latent error" not in edit().out
    assert "largest latent error" in edit("--check").out


def test_exact_reconstructs_to_float_precision(edit):
    assert edit("--json", "--exact").json["reconstruction_latent_max_error"] <= 1e-6


def test_several_seeds_give_several_outputs(edit):
    run = edit("--seed", 3, 5, "--json")
    assert run.json["outputs"] == ["out-0.png", "out-1.png"]
    assert run.json["parameters"]["seeds"] == [3, 5]
    assert run.files == {"out-0.png", "out-1.png"}
    assert (pixels("out-0.png") != pixels("out-1.png")).any()
    alone = edit("--seed", 5, out="alone.png")
    assert alone.code == 0
    # another batch size changes the rounding by at most one grey level
    assert np.abs(pixels("alone.png").astype(int) - pixels("out-1.png").astype(int)).max() <= 1


@pytest.mark.parametrize(("method", "alike"), [("ddim", True), ("sdedit", False)])
def test_seeds_without_effect_are_reported(edit, method, alike):
    run = edit("--method", method, "--seeds", 2, "--json")
    assert any("all seeds gave the same image" in note for note in run.json["notes"]) == alike
    assert ("all seeds gave the same image" in run.err) == alike


def test_target_prompt_is_optional_for_colour_and_shift(sfumato, tiny_sd_folder):
    words = ("edit", "photo.png", "--from", "red apple", "-o", "out.png", "--steps", 4, "--model", tiny_sd_folder)
    for method in (("colour", "--colour", "blue"), ("shift", "--right", 2)):
        run = sfumato(*words, "--method", *method, "--json")
        assert run.json["parameters"]["prompts"] == ["red apple"]
    assert "target prompt (--to) is empty" in sfumato(*words, "--method", "ddim").refused()


def test_seeds_option_counts_up_from_seed(edit):
    assert edit("--seed", 7, "--seeds", 2, "--json").json["parameters"]["seeds"] == [7, 8]


def test_mask_keeps_pixels_outside_unchanged(edit, folder):
    mask = np.zeros((22, 30), np.uint8)
    mask[4:12, 6:20] = 255
    Image.fromarray(mask).save("mask.png")
    assert edit("--mask", "mask.png").code == 0
    changed = (pixels("out.png") != pixels("photo.png")).any(axis=-1)
    assert not changed[mask == 0].any()
    assert changed[mask == 255].any()


def test_lossy_format_with_mask_is_reported(edit, folder):
    mask = np.zeros((22, 30), np.uint8)
    mask[4:12, 6:20] = 255
    Image.fromarray(mask).save("mask.png")
    for out, lossy in {"out.jpg": True, "out.webp": False, "out.png": False, "out.bmp": False}.items():
        run = edit("--mask", "mask.png", "--no-recipe", "--json", out=out)
        same = (pixels(out) == pixels("photo.png"))[mask == 0].all()
        assert same == (not lossy)
        said = [f"{out}: JPEG changes pixels outside the mask, too: write a .png to keep them unchanged."]
        assert run.json["notes"] == (said if lossy else [])
        assert run.err == "".join(f"sfumato: {sentence}\n" for sentence in run.json["notes"])
    assert edit("--no-recipe", "--json", out="plain.jpg").json["notes"] == []


def test_16_bit_input_reports_editing_in_8_bits(edit, folder):
    deep = np.random.default_rng(0).integers(0, 2**16, (22, 30)).astype(np.uint16)
    Image.fromarray(deep).save("deep.png")
    run = edit("--json", image="deep.png")
    assert run.json["notes"] == ["deep.png: 16 bits per channel, read in 8 bits, but PNG and TIFF outputs have 16."]
    assert run.err == "sfumato: deep.png: 16 bits per channel, read in 8 bits, but PNG and TIFF outputs have 16.\n"


@pytest.mark.parametrize("words", [("invert", "deep.png", "-o", "x.safetensors"), ("metrics", "deep.png", "photo.png")])
def test_depth_of_the_output_is_stated_only_if_there_is_one(sfumato, tiny_sd_folder, words):
    Image.fromarray(np.arange(22 * 30, dtype=np.uint16).reshape(22, 30) * 99).save("deep.png")
    words += ("--steps", 2, "--model", tiny_sd_folder) if words[0] == "invert" else ("--clip", SHIPPED)
    assert "sfumato: deep.png: 16 bits per channel, read in 8 bits.\n" in sfumato(*words).err


def test_what_an_inversion_lacks_is_named(sfumato, tiny_sd_folder):
    photo = Image.open("photo.png").convert("RGBA")
    photo.putpixel((0, 0), (9, 9, 9, 0))
    exif = Image.Exif()
    exif[0x010E] = "a photo"
    photo.save("full.png", dpi=(300, 300), exif=exif)
    model = ("--steps", 3, "--model", tiny_sd_folder)
    said = "x.safetensors will not contain the transparency, EXIF, resolution (DPI) of full.png"
    run = sfumato("invert", "full.png", "--from", "red", "-o", "x.safetensors", "--json", *model)
    assert any(said in note for note in run.json["notes"])
    assert said in run.err
    assert sfumato("invert", "photo.png", "--from", "red", "-o", "y.safetensors", *model).err == ""
    edit = ("edit", "x.safetensors", "--to", "green", "-o", "out.png", "--model", tiny_sd_folder)
    assert "an inversion contains no EXIF" in sfumato(*edit, "--keep-gps").refused()


def test_image_without_visible_pixels_is_noted(edit):
    photo = Image.open("photo.png").convert("RGBA")
    photo.putalpha(0)
    photo.save("clear.png")
    notes = edit("--json", image="clear.png").json["notes"]
    assert notes == ["clear.png: all pixels are transparent: remove the alpha channel to see an edit."]


def test_repeated_command_writes_an_identical_file(edit, folder):
    edit()
    first = (folder / "out.png").read_bytes()
    assert edit().files == set()  # overwriting an earlier output is allowed
    assert (folder / "out.png").read_bytes() == first


def test_recipe_parameters_reproduce_the_image(edit, sfumato, tiny_sd_folder):
    edit("--seed", 4, "--guidance", 6, "--no-residual")
    recipe = sfumato("recipe", "out.png").json
    assert recipe["prompt"] == "green apple"
    assert recipe["dtype"] == "float32"
    assert set(recipe["versions"]) == {"sfumato", "torch", "diffusers"}
    again = sfumato(
        "edit", "photo.png", "--from", recipe["source_prompt"], "--to", recipe["prompt"], "-o", "again.png",
        "--model", tiny_sd_folder, "--method", recipe["method"], "--seed", recipe["seed"], "--steps", recipe["steps"],
        "--skip", recipe["skip"], "--eta", recipe["eta"], "--guidance", recipe["guidance_scale"],
        "--source-guidance", recipe["source_guidance_scale"], *([] if recipe["residual"] else ["--no-residual"]),
    )  # fmt: skip
    assert again.code == 0, again.err
    assert (pixels("out.png") == pixels("again.png")).all()


def test_no_recipe_option_writes_no_metadata(edit, sfumato):
    edit("--no-recipe")
    with Image.open("out.png") as image:
        assert image.info == {}
    assert "no sfumato recipe" in sfumato("recipe", "out.png").refused()


def test_format_without_recipe_support_is_reported(edit):
    run = edit(out="out.bmp")
    assert run.code == 0
    assert "cannot store the recipe" in run.err
    assert edit(out="out.jpg").err == ""


def test_gps_position_is_removed_unless_requested(edit):
    block = Image.Exif()
    block[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}
    Image.open("photo.png").save("there.jpg", exif=block)
    assert "--keep-gps" in edit(image="there.jpg").err
    assert not Image.open("out.png").getexif().get_ifd(0x8825)
    assert edit("--keep-gps", image="there.jpg").err == ""
    assert Image.open("out.png").getexif().get_ifd(0x8825)


def test_use_of_the_first_frame_is_reported(edit):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    run = edit(image="moving.gif")
    assert run.code == 0
    assert "first frame of 2 used" in run.err


def test_editing_a_saved_inversion_matches_editing_the_image(edit, sfumato, tiny_sd_folder):
    edit("--seed", 2)
    model = ("--model", tiny_sd_folder)
    inverted = sfumato(
        "invert", "photo.png", "--from", "red apple", "-o", "photo.safetensors", "--steps", 6, "--seed", 2, *model
    )
    assert inverted.code == 0, inverted.err
    assert inverted.files == {"photo.safetensors"}
    again = sfumato("edit", "photo.safetensors", "--to", "green apple", "-o", "again.png", "--skip", 1, *model)
    assert again.code == 0, again.err
    assert (pixels("out.png") == pixels("again.png")).all()


def test_invert_reports_the_reconstruction_error(sfumato, tiny_sd_folder):
    words = (
        "invert",
        "photo.png",
        "--from",
        "red apple",
        "-o",
        "x.safetensors",
        "--steps",
        5,
        "--model",
        tiny_sd_folder,
    )
    found = sfumato(*words, "--json", "--exact").json
    assert found["reconstruction_latent_max_error"] <= 1e-6
    assert found["outputs"] == ["x.safetensors"]
    assert found["network_evaluations"] == 2 * (5 + 5)
    assert "x.safetensors" in sfumato(*words).out


def test_edit_uses_the_method_of_the_inversion(sfumato, tiny_sd_folder):
    model = ("--model", tiny_sd_folder)
    sfumato(
        "invert", "photo.png", "--from", "red apple", "-o", "x.safetensors", "--method", "ddim", "--steps", 4, *model
    )
    found = sfumato("edit", "x.safetensors", "--to", "green apple", "-o", "out.png", *model, "--json").json
    assert found["parameters"]["method"] == "ddim"


@pytest.mark.parametrize("method", ["ddim", "native-ddpm"])
def test_method_option_selects_the_method(edit, method):
    run = edit("--method", method, "--json")
    assert run.json["parameters"]["method"] == method


def test_edit_works_with_every_model_layout(sfumato, layout, layout_folder):
    prompts = () if layout == "ddpm" else ("--from", "red apple", "--to", "green apple")
    run = sfumato("edit", "photo.png", *prompts, "-o", "out.png", "--model", layout_folder, *FAST)
    assert run.code == 0, run.err
    assert pixels("out.png").shape == (22, 30, 3)


def test_several_methods_are_combined_and_recorded(sfumato, tiny_sd_folder):
    """Flags of one method need no prefix, those of both start with the method's name; a saved inversion works, too."""
    model = ("--model", tiny_sd_folder)
    words = (
        "--to",
        "green cat",
        "-o",
        "out.png",
        "--skip",
        1,
        *model,
        "--method",
        "prompt-to-prompt",
        "--self-steps",
        0.5,
    )
    both = (*words, "--method", "pix2pix-zero", "--pix2pix-zero.scale", 0.5)
    assert sfumato("edit", "photo.png", "--from", "red cat", "--steps", 3, *both).code == 0
    methods = read_recipe("out.png")["methods"]
    assert [each["method"] for each in methods] == ["prompt-to-prompt", "pix2pix-zero"]
    assert (methods[0]["self_steps"], methods[1]["scale"]) == (0.5, 0.5)
    assert sfumato("invert", "photo.png", "--from", "red cat", "-o", "x.safetensors", "--steps", 3, *model).code == 0
    assert sfumato("edit", "x.safetensors", *both).code == 0


@pytest.mark.parametrize("tiles", [(), ("--tiles", "--resolution", "full")])
def test_an_inversion_is_read_once(sfumato, tiny_sd_folder, monkeypatch, tiles):
    model = ("--model", tiny_sd_folder)
    made = sfumato("invert", "photo.png", "-o", "x.safetensors", "--method", "ddim", "--steps", 2, *tiles, *model)
    assert made.code == 0, made.err
    load, read = Inversion.load, []
    monkeypatch.setattr(Inversion, "load", staticmethod(lambda path: read.append(path) or load(path)))
    found = sfumato("edit", "x.safetensors", "--to", "green apple", "-o", "out.png", *model, "--json")
    assert found.json["parameters"]["method"] == "ddim", found.err
    assert read == ["x.safetensors"]


def test_everything_is_read_encoded_and_checked_once(sfumato, tiny_sd_folder, monkeypatch):
    """The values of the options are checked, with the defaults of the model, before it is loaded."""
    Image.new("L", (30, 22), 255).save("mask.png")
    model = Path(shutil.copytree(tiny_sd_folder, "model"))
    (model / "sfumato.json").write_text('{"edit": {"steps": 7}}')
    monkeypatch.setattr(kept_files, "SETTLED", 0)  # the files are new
    counts = Counter()

    def count(target, name, key):
        function = getattr(target, name)

        def counting(*arguments, **options):
            counts.update(key(*arguments))
            return function(*arguments, **options)

        monkeypatch.setattr(target, name, counting)

    count(read, "_file", lambda source: [Path(source).name])
    count(text_files, "read_bytes", lambda path, *_: [Path(path).resolve().relative_to(model.resolve())])
    count(conditioning, "encode", lambda text_encoders, prompts: prompts)
    count(weights, "check_header", lambda path, *_: [path.resolve().relative_to(model.resolve())])
    count(EditFriendlyParams, "check", lambda params: ["check"])
    words = ("--from", "red apple", "--to", "green apple", "--mask", "mask.png", "--negative-prompt", "flat")
    run = sfumato("edit", "photo.png", *words, "-o", "out.png", "--model", model, "--skip", 1, "--json")
    assert run.json["parameters"]["steps"] == 7, run.err
    files = {name: n for name, n in counts.items() if isinstance(name, Path)}
    names = ("sfumato.json", "model_index.json", "unet/diffusion_pytorch_model.safetensors")
    assert files.keys() >= set(map(Path, names))
    assert set(files.values()) == {1}
    rest = {name: n for name, n in counts.items() if name not in files}
    assert rest == {"photo.png": 1, "mask.png": 1, "red apple": 1, "green apple": 1, "flat": 1, "": 1, "check": 1}


BOTH = ("--method", "prompt-to-prompt", "--method", "pix2pix-zero")


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (("--guidance", 3, "--source-guidance", 2), ["EditFriendlyParams"]),
        (("--method", "prompt-to-prompt", "--blend", "cat", "--skip", 0), ["PromptToPromptParams"]),
        (BOTH, ["PromptToPromptParams", "Pix2PixZeroParams"]),
        ((*BOTH, "--inversion", "ddim", "--guidance", 3, "--pix2pix-zero.scale", 0.5, "--skip", 0),
         ["PromptToPromptParams", "Pix2PixZeroParams"]),
    ],
)  # fmt: skip
def test_options_of_every_method_are_checked_once(sfumato, tiny_sd_folder, monkeypatch, words, classes):
    checked, check = [], Params.check
    monkeypatch.setattr(Params, "check", lambda params: checked.append(type(params).__name__) or check(params))
    prompts = ("--from", "red cat", "--to", "green cat")
    run = sfumato("edit", "photo.png", *prompts, "-o", "out.png", "--model", tiny_sd_folder, "--steps", 3, *words)
    assert run.code == 0, run.err
    assert checked == classes


@pytest.mark.parametrize("inversion", ["edit-friendly", "ddim"])
def test_command_equals_a_call_with_options(sfumato, tiny_sd_folder, inversion):
    """The command gives complete parameters, with the defaults of the model for each inversion."""
    model = Path(shutil.copytree(tiny_sd_folder, "model"))
    tuned = {"skip": 2, "guidance_scale": 4.0, "after": {"ddim": {"steps": 6, "skip": 1, "guidance_scale": 3.0}}}
    settings = {"prompt-to-prompt": {"steps": 8, **tuned}, "pix2pix-zero": {"guidance_scale": 9.0}}
    (model / "sfumato.json").write_text(json.dumps(settings))
    words = ("--from", "red cat", "--to", "green cat", "--model", "model", *BOTH, "--inversion", inversion)
    run = sfumato("edit", "photo.png", *words, "-o", "out.png", "--pix2pix-zero.scale", 0.5)
    assert run.code == 0, run.err
    methods = ["prompt-to-prompt", ("pix2pix-zero", {"scale": 0.5})]
    plan = load("model").plan("photo.png", "red cat", "green cat", methods=methods, inversion=inversion)
    result = plan.run().result
    result.save("call.png")
    assert (pixels("out.png") == pixels("call.png")).all()
    assert read_recipe("out.png") == read_recipe("call.png")
    assert read_recipe("out.png")["skip"] == (2 if inversion == "edit-friendly" else 1)


def test_incompatible_methods_are_rejected(sfumato, tiny_sd_folder):
    words = ("edit", "photo.png", "--from", "red cat", "--to", "green cat", "-o", "out.png", "--model", tiny_sd_folder)
    two = ("--method", "prompt-to-prompt", "--method", "plug-and-play", "--steps", 3)
    assert "prompt-to-prompt and plug-and-play both replace" in sfumato(*words, *two).refused()
    same = ("--method", "colour", "--method", "native-ddpm")
    assert "native-ddpm edits inversions by native-ddpm, not by edit-friendly" in sfumato(*words, *same).refused()
