"""The commands `sfumato directions` and `sfumato interpolate`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.api import load
from sfumato.errors import BadInput
from sfumato.geometry import Directions
from sfumato.images import read_image, read_recipe
from tests.cli.conftest import folder, sfumato  # noqa: F401
from tests.tiny import tiny_image

STEPS = ("--steps", 4)


@pytest.fixture
def model(tiny_sd_folder):
    return ("--model", tiny_sd_folder)


@pytest.fixture
def found(sfumato, model):  # noqa: F811
    """A file of three directions for images of the folder's size, padded to the grid."""
    run = sfumato(
        *("directions", "find", "-o", "d.safetensors", "-n", 3, "--samples", 3, *STEPS, *model),
        *("--prompt", "red cat", "blue dog", "--names", "size", "2", "hue", "--size", "32x24"),
    )
    assert run.code == 0, run.err
    return run


def test_directions_find_list_name_show_and_apply(sfumato, found, model):  # noqa: F811
    assert found.files == {"d.safetensors"}
    assert found.out.splitlines()[0].split() == ["direction", "singular", "value", "overlap"]
    assert "timestep 751 of a run of 4 steps, 3 samples" in found.out
    listed = sfumato("directions", "list", ".", "--json").json["files"]
    assert [each["name"] for each in listed[0]["directions"]] == ["size", "2", "hue"]
    assert listed[0]["prompts"] == ["red cat", "blue dog"]
    assert "size, 2, hue" in sfumato("directions", "list", "d.safetensors").out
    assert sfumato("directions", "name", "d.safetensors", "2=age of cat").code == 0
    assert Directions.load("d.safetensors").names == ("size", "age of cat", "hue")

    sheet = sfumato("directions", "show", "d.safetensors", "photo.png", "-o", "s.png", "--gamma", 2, *model)
    assert sheet.code == 0, sheet.err
    assert sheet.files == {"s.png"}
    moved = sfumato(
        *("directions", "apply", "photo.png", "d.safetensors", "-o", "out.png", "--direction", "age of cat=1,hue=-0.5"),
        *("--gamma", 1, "--shots", 2, "--from", "red cat", "--json", *model),
    )
    assert moved.code == 0, moved.err
    assert moved.files == {"out.png"}
    (move,) = moved.json["moves"]
    assert len(move["steps"]) == 2
    assert all(set(step) == {"angle", "length", "expected"} for step in move["steps"])
    assert move["distance"] > 0
    assert Image.open("out.png").size == (30, 22)
    recipe = read_recipe("out.png")
    assert (recipe["direction"], recipe["shots"], recipe["steps"]) == ("age of cat=1,hue=-0.5", 2, 4)
    assert recipe["moves"] == move
    passes = moved.json["jacobian_passes"]
    assert passes == {"forward_mode": 0, "reverse_mode": 2 * 16}  # all of J, for two shots
    told = sfumato("directions", "apply", "photo.png", "d.safetensors", "-o", "b.png", *model).out
    assert "angle" in told
    assert "evaluations, 16 reverse-mode products" in told


def test_find_and_show_report_their_cost(sfumato, model):  # noqa: F811
    words = ("-n", 2, "--samples", 3, *STEPS, "--size", "32x24", "--time", 0.5, "--guidance", 1, "--json", *model)
    found = sfumato("directions", "find", "-o", "d.safetensors", *words).json
    assert found["seconds"] > 0
    # two steps of three samples in one call each, and the bottleneck of every sample
    assert (found["network_evaluations"], found["network_calls"]) == (3 * (2 + 1), 2 + 3)
    assert found["jacobian_passes"] == {"forward_mode": 0, "reverse_mode": 3 * 16}
    pca = sfumato("directions", "find", "-o", "p.safetensors", *words, "--kind", "pca").json
    assert "jacobian_passes" not in pca
    sheet = ("directions", "show", "d.safetensors", "photo.png", "-o", "s.png", "--gamma", 2, *model)
    shown = sfumato(*sheet, "--json").json
    assert shown["network_evaluations"] > 4  # those of the inversion are included
    assert shown["jacobian_passes"] == {"forward_mode": 0, "reverse_mode": 16}
    assert "network evaluations, 16 reverse-mode products" in sfumato(*sheet).out


def test_pullback_edit_reports_its_moves(sfumato, model):  # noqa: F811
    words = ("edit", "photo.png", "--method", "pullback", "--from", "red cat", *STEPS, *model)
    raw = sfumato(*words, "-o", "a.png", "--shots", 3, "--gamma", -0.25, "--no-normalise", "--json")
    assert raw.code == 0, raw.err
    (move,) = raw.json["moves"]
    assert len(move["steps"]) == 3
    assert 0.25 < move["distance"] <= 0.75 + 1e-3
    assert raw.json["jacobian_passes"]["reverse_mode"] > 0
    assert read_recipe("a.png")["moves"] == move
    printed = sfumato(*words, "-o", "b.png", "--shots", 2, "--gamma", 0.25).out.splitlines()
    assert printed[0].split()[:3] == ["step", "angle", "length"]
    assert printed[3].startswith("b.png: the latent moved by ")
    still = sfumato(*words, "-o", "c.png", "--gamma", 0, "--json")
    assert not {"moves", "jacobian_passes"} & set(still.json)
    assert "moves" not in read_recipe("c.png")


def test_commands_with_a_pixel_space_ddpm(sfumato, tiny_ddpm_folder):  # noqa: F811
    """A UNet2DModel from a folder: find, show, apply and interpolate; prompts are refused."""
    model = ("--model", tiny_ddpm_folder)
    tiny_image(30, 22, seed=5).save("other.png")
    assert sfumato(
        *("directions", "find", "-o", "d.safetensors", "-n", 2, "--samples", 3, *STEPS, *model),
        *("--time", 0.5, "--size", "30x22", "--kind", "pullback"),
    ).files == {"d.safetensors"}
    shown = sfumato(
        *("directions", "show", "d.safetensors", "photo.png", "-o", "s.png", "--gamma", 1, "--scale", 2, *model),
        *("--no-normalise", "--chunk", 5),
    )
    assert shown.code == 0, shown.err
    applied = ("directions", "apply", "photo.png", "d.safetensors", "-o", "a.png", "--direction", "1=1,2=-1")
    for words in (("--shots", 2), ("--boost", 0.5), ("--no-normalise", "--gamma", -2)):
        run = sfumato(*applied, *words, *model)
        assert run.code == 0, run.err
        assert Image.open("a.png").size == (30, 22)
    film = sfumato("interpolate", "photo.png", "other.png", "-o", "film", "--frames", 2, "--steps", 2, *model)
    assert film.code == 0, film.err
    assert "no text input" in sfumato(*applied, "--from", "red cat", *model).refused()
    assert "no text input" in sfumato("directions", "find", "-o", "e.safetensors", "--prompt", "cat", *model).refused()


def test_apply_with_bad_rank_is_refused_before_the_inversion(sfumato, found, model, monkeypatch):  # noqa: F811
    monkeypatch.setattr("sfumato.api.source_plan.inverting", None)
    words = ("directions", "apply", "photo.png", "d.safetensors", "-o", "x.png", *model)
    assert "rank must be between 1 and 16" in sfumato(*words, "--rank", 17).refused()


def test_bad_directions_are_refused(sfumato, found, model, tiny_sd2_folder):  # noqa: F811
    def apply(*words, model=model):
        return sfumato("directions", "apply", "photo.png", "d.safetensors", "-o", "x.png", *words, *model).refused()

    assert 'no direction "smile": use one of size, 2, hue' in apply("--direction", "smile")
    assert "gamma must be between -1000 and 1000" in apply("--gamma", 5000)
    assert "another model" in apply(model=("--model", tiny_sd2_folder))
    tiny_image(64, 64).save("photo.png")
    assert "latents of shape [4, 6, 8], not [4, 16, 16]" in apply("--resolution", "full")
    assert (
        "would be overwritten"
        in sfumato(*("directions", "apply", "photo.png", "d.safetensors", "-o", "photo.png", *model)).refused()
    )
    assert "no files of directions" in sfumato("directions", "list", "/").refused()
    assert "needs both IMAGE and -o SHEET" in sfumato("directions", "show", "d.safetensors", "photo.png").refused()
    assert "number of another" in sfumato("directions", "name", "d.safetensors", "1=2").refused()
    for twice in (("1=a", "1=b"), ("1=a", "size=b")):
        assert "renamed twice: give it one new name" in sfumato("directions", "name", "d.safetensors", *twice).refused()
    for words in (("--from", "cat"), ("--gamma", 0), ("--no-normalise",), ("--chunk", 16), ("--scale", 1)):
        refused = sfumato("directions", "show", "d.safetensors", *words).refused()
        assert f"{words[0]} is for the contact sheet of an image: give IMAGE and -o SHEET" in refused
    assert "did you mean 'apply'" in sfumato("directions", "aply").refused()
    assert (
        "n must be between 1 and 16"
        in sfumato(*("directions", "find", "-o", "e.safetensors", "-n", 17, *STEPS, *model)).refused()
    )
    assert "written to a .safetensors file" in sfumato("directions", "find", "-o", "e.png").refused()
    Path("folder.safetensors").mkdir()
    assert "is a folder" in sfumato("directions", "find", "-o", "folder.safetensors").refused()
    assert "give the action first: sfumato directions list" in sfumato("directions", "--", "list", ".").refused()
    tiny_image(208, 22).save("wide.png")
    sheet = ("directions", "show", "d.safetensors", "wide.png", "-o", "sheet.webp", "--scale", 16)
    assert "WEBP supports at most 16383 pixels a side" in sfumato(*sheet).refused()


@pytest.mark.parametrize("action", ["find", "list", "show", "name", "apply"])
def test_help_fits_55_lines_of_100_columns(sfumato, action, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "100")
    lines = sfumato("directions", action, "--help").out.splitlines()
    assert f"sfumato directions {action}" in lines[0]
    assert len(lines) <= 55
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("path", ["slerp", "geodesic"])
def test_interpolate(sfumato, model, path):  # noqa: F811
    tiny_image(30, 22, seed=5).save("other.png")
    run = sfumato(
        *("interpolate", "photo.png", "other.png", "--from", "red cat", "blue dog", "-o", "film", "--path", path),
        *("--frames", 4, *STEPS, "--refine", 2, "--chunk", 3, "--measure", "--bounce", "--json", *model),
    )
    assert run.code == 0, run.err
    assert run.files == {
        f"film/{name}" for name in ("sheet.png", "animation.gif", *(f"frame-0{n}.png" for n in range(4)))
    }
    animation = Image.open("film/animation.gif")
    assert (animation.size, animation.n_frames) == ((30, 22), 6)
    assert np.asarray(Image.open("film/frame-00.png")).shape == (22, 30, 3)
    for name in ("semantic", "bottleneck", "latent", "perceptual"):
        assert len(run.json["metrics"][f"{name}_length"]) == 3
        assert min(run.json["metrics"][f"{name}_length"]) > 1e-3
    assert run.json["parameters"]["rank"] == 8  # half of the dimensions of this bottleneck
    assert run.json["jacobian_passes"] == {"forward_mode": 0, "reverse_mode": 16 * 4}  # one basis per frame
    assert read_recipe("film/frame-03.png")["share"] == 1
    shorter = sfumato("interpolate", "photo.png", "other.png", "-o", "film", "--frames", 2, *STEPS, *model)
    assert "products" not in shorter.out
    assert "film also contains frames of an earlier path: frame-02.png to frame-03.png." in shorter.err


def test_perceptual_length_equals_lpips_of_the_frames(tiny_sd_folder):
    from sfumato.metrics import SHIPPED, load_perceptual, lpips

    model = load(str(tiny_sd_folder), "cpu")
    film = model.interpolate(*(tiny_image(32, 32, seed=seed) for seed in (0, 5)), frames=3, steps=2, measure=True)
    frames = torch.stack([torch.from_numpy(each.copy()) for each in film.pixels]).permute(0, 3, 1, 2) / 255
    wanted = lpips(load_perceptual(str(SHIPPED)), frames[:-1], frames[1:]).tolist()
    assert film.report["metrics"]["perceptual_length"] == pytest.approx(wanted, rel=1e-4)


def test_max_pixels_applies_to_both_images(sfumato, model, monkeypatch):  # noqa: F811
    """The value of --max-pixels is passed to `read_image` for both images."""
    tiny_image(30, 22, seed=5).save("other.png")
    limits = []

    def read(source, max_pixels=0, **options):
        limits.append(max_pixels)
        return read_image(source, max_pixels, **options)

    monkeypatch.setattr("sfumato.api.interpolating.read_image", read)
    words = ("interpolate", "photo.png", "other.png", "-o", "film", "--frames", 2, "--steps", 1, *model)
    assert sfumato(*words, "--max-pixels", 700).code == 0
    assert limits == [700, 700]


def test_path_ends_equal_the_reconstructions(tiny_sd_folder):
    model = load(str(tiny_sd_folder), "cpu")
    images = [tiny_image(30, 22, seed=seed) for seed in (0, 5)]
    prompts = ["red cat", "blue dog"]
    between = model.interpolate(*images, prompts, frames=3, steps=4, time=0.75)
    ends = model.invert(images, prompts, method="ddim", steps=4).edit(
        prompts, skip=1, guidance_scale=1.0, residual=False
    )
    for frame, end in ((0, 0), (2, 1)):
        assert abs(between.pixels[frame].astype(int) - ends.pixels[end]).max() <= 1
    assert (between.pixels[1] != between.pixels[0]).any()


@pytest.mark.parametrize(("time", "levels"), [(1.0, 4), (0.75, 3), (0.1, 1)])
def test_only_the_levels_up_to_the_time_are_inverted(tiny_sd_folder, time, levels):
    model = load(str(tiny_sd_folder), "cpu")
    images = [tiny_image(30, 22, seed=seed) for seed in (0, 5)]
    run = model.interpolate_steps(*images, frames=3, steps=4, time=time, refine=1)
    done = [(step.stage, step.done, step.total) for step in run]
    assert done == [(stage, n + 1, levels) for stage in ("invert", "interpolate") for n in range(levels)]
    # two images with one fixed-point iteration, then three frames
    assert run.result.report["network_evaluations"]["samples"] == levels * (2 * 2 + 3)


def test_alpha_is_interpolated_between_the_images(sfumato, model):  # noqa: F811
    """The ends have the alpha of the files, an opaque image 255; the colours are those of the opaque path."""
    clear = tiny_image(30, 22, seed=5).convert("RGBA")
    alpha = np.arange(22 * 30, dtype=np.uint16).reshape(22, 30).astype(np.uint8)
    clear.putalpha(Image.fromarray(alpha))
    clear.save("clear.png")
    run = sfumato("interpolate", "photo.png", "clear.png", "-o", "film", "--frames", 3, *STEPS, *model)
    assert run.code == 0, run.err
    assert "drawn on white; the frames keep the transparency" in run.err
    frames = [Image.open(f"film/frame-0{n}.png") for n in range(3)]
    assert {frame.mode for frame in frames} == {"RGBA"}
    found = [np.asarray(frame.getchannel("A")) for frame in frames]
    assert (found[0] == 255).all()
    assert (found[2] == alpha).all()
    assert (found[1] == np.rint((255.0 + alpha) / 2)).all()
    film = load(str(model[1]), "cpu").interpolate("photo.png", "clear.png", frames=3, steps=4)
    for frame, pixels in zip(frames, film.pixels, strict=True):
        white = Image.new("RGBA", frame.size, "white")
        white.alpha_composite(frame)
        opacity = np.asarray(frame.getchannel("A")).astype(int)[..., None]
        possible = (pixels >= 255 - opacity) & (opacity > 63)  # not darker than this opacity over white can show
        assert possible.mean() > 0.3
        assert abs(np.asarray(white.convert("RGB")).astype(int) - pixels)[possible].max() <= 2


def test_interpolate_ignores_the_skip_of_the_model(tiny_sd_folder):
    """Other defaults of the method ddim apply, but the step of the latents is set by `time` only."""
    model = load(str(tiny_sd_folder), "cpu")
    images = [tiny_image(32, 32, seed=seed) for seed in (0, 5)]
    model.network.settings["ddim"] = {"steps": 4, "skip": 2}
    film = model.interpolate(*images, frames=2)
    assert (film.recipes[0]["steps"], film.recipes[0]["skip"], film.recipes[0]["time"]) == (4, 0, 1.0)
    with pytest.raises(BadInput, match="time sets where"):
        model.interpolate(*images, frames=2, skip=1)


def test_bad_interpolations_are_refused(sfumato, model):  # noqa: F811
    tiny_image(30, 24).save("larger.png")
    tiny_image(30, 22, seed=5).save("other.png")

    def interpolate(*words, other="other.png"):
        return sfumato("interpolate", "photo.png", other, "-o", "film", *STEPS, *model, *words).refused()

    assert "two images of one size, not 30 x 22 and 30 x 24" in interpolate(other="larger.png")
    assert "invalid choice: 'arc' (choose from 'lerp', 'slerp', 'geodesic')" in interpolate("--path", "arc")
    assert "rank must be between 1 and 16" in interpolate("--path", "geodesic", "--rank", 20)
    assert "give both" in interpolate("--lpips", "vgg")
    assert "rank is the dimension of tangent spaces" in interpolate("--rank", 7)
    assert "chunk is the batch size of products with the Jacobian" in interpolate("--chunk", 16)
    assert "frames" in interpolate("--frames", 1)
    assert "extension must be one of .gif, .png, .webp" in interpolate("--animation", "a.mp4")
    assert "in the output folder" in interpolate("--animation", "../a.gif")
    assert "time must be above 0" in interpolate("--time", 0)
