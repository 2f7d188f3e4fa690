"""The edit that the editing benchmarks measure: flags, defaults of the model, and a description."""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.report import add_measuring
from sfumato.bench.contenders import Task
from sfumato.errors import BadInput
from sfumato.examples import examples
from sfumato.images import read_image
from sfumato.models.bundled import list_models, read_settings


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags of all benchmarks of editing, described by the first line of `description`."""
    found = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    found.add_argument("--model", default="emoji", help="bundled name or Stable Diffusion folder")
    found.add_argument("--image", help="a real image; the first of the package's examples by default")
    found.add_argument("--from", dest="source", help="prompt of the image")
    found.add_argument("--to", dest="target", help="prompt describing the edited image")
    found.add_argument(
        "--size", type=_size, help="pixels, 64 or 96x64 (width x height); the model's native size by default"
    )
    found.add_argument("--steps", type=int, help="steps of a run; default the model's")
    found.add_argument("--skip", type=int, help="first steps that the edit skips; default the model's")
    found.add_argument(
        "--source-guidance",
        dest="source_guidance_scale",
        type=float,
        help="guidance scale of the source prompt; default the model's",
    )
    found.add_argument(
        "--guidance", dest="guidance_scale", type=float, help="guidance scale of the target prompt; default the model's"
    )
    add_measuring(found, repeats=5)
    return found


def make_task(given: argparse.Namespace, folder: Path) -> Task:
    """The edit with the options of the command line, else the model's defaults, else those of the paper.

    Raises:
        BadInput: an image without prompts, or skip out of range.
    """
    shipped = examples()[0]
    if given.image and not (given.source and given.target):
        raise BadInput("Give --from and --to with --image.")
    own = {"steps": 100, "skip": 36, "source_guidance_scale": 3.5, "guidance_scale": 15.0} | read_settings(folder).get(
        "edit", {}
    )
    values = {name: own[name] for name in ("steps", "skip", "source_guidance_scale", "guidance_scale")}
    values |= {name: getattr(given, name) for name in values if getattr(given, name) is not None}
    if not 0 <= values["skip"] < values["steps"]:
        raise BadInput(f"--skip must be between 0 and {values['steps'] - 1}, not {values['skip']}.")
    image = Image.fromarray(read_image(given.image or shipped.path).rgb)
    return Task(
        folder=folder,
        image=image.resize(given.size or native_size(folder), Image.Resampling.LANCZOS),
        source=given.source or shipped.source,
        target=given.target or shipped.target,
        device=given.device,
        **values,
    )


@contextmanager
def opened(given: argparse.Namespace) -> Iterator[tuple[Task, Path]]:
    """The edit, on a tiny model with `--quick`, and a temporary folder.

    Raises:
        BadInput: as `make_task` and `model_folder`.
    """
    with tempfile.TemporaryDirectory() as beside:
        if given.quick:
            quicken(given, Path(beside))
        yield make_task(given, model_folder(given.model)), Path(beside)


def model_folder(name: str) -> Path:
    """The folder of a bundled model, or the folder itself.

    Raises:
        BadInput: it is not a Stable Diffusion pipeline, which all contenders require.
    """
    bundled = {model.name: model.folder for model in list_models()}
    folder = bundled.get(name, Path(name))
    if not all((folder / part).is_dir() for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")):
        raise BadInput(
            f"{name} must be a Stable Diffusion pipeline folder in the diffusers layout, or a bundled model."
        )
    return folder


def native_size(folder: Path) -> tuple[int, int]:
    """(width, height) in pixels that the network was trained on."""
    unet = json.loads((folder / "unet/config.json").read_text())
    levels = json.loads((folder / "vae/config.json").read_text())["block_out_channels"]
    side = int(unet["sample_size"]) * 2 ** (len(levels) - 1)
    return side, side


def quicken(given: argparse.Namespace, folder: Path) -> None:
    """Set the smallest settings that run every part, and write a tiny random model into `folder`."""
    from tests.tiny import tiny_sd  # random weights of the tests

    given.model, given.repeats = str(tiny_sd(folder / "tiny")), 1
    given.steps, given.skip = given.steps or 6, 2 if given.skip is None else given.skip
    given.source_guidance_scale, given.guidance_scale = given.source_guidance_scale or 1.5, given.guidance_scale or 2.0


def about(task: Task) -> dict[str, Any]:
    """The task as JSON values, without the image."""
    kept = {name: value for name, value in vars(task).items() if name not in ("folder", "image")}
    return kept | {"model": task.folder.name, "width": task.image.width, "height": task.image.height}


def headline(task: Task, where: Mapping[str, Any]) -> str:
    """The task and the machine, in one line."""
    return (
        f"{task.folder.name}, {task.image.width} x {task.image.height} pixels, {task.steps} steps, skip {task.skip}, "
        f"guidance scale {task.source_guidance_scale:g} (source) and {task.guidance_scale:g} (target); "
        f"{where['device']}, {where['threads']} threads, {where['cpu']} with {where['cores']} cores, "
        f"load {where['load']:.1f}; torch {where['torch']}, diffusers {where['diffusers']}"
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height or width)
