"""Options of the report commands, and the model, evaluator and recipe that they name."""

import argparse
from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import check_writable
from sfumato.metrics import DualEncoder
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import list_models, load_model
from sfumato.train.recipe import Recipe, load_recipe


def report_parser(description: str, selects: str) -> argparse.ArgumentParser:
    """Parser with the options of all report commands.

    Args:
        description: description of the command in its help.
        selects: use of the recipe's table [data], for the help of its option.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", help="bundled name or pipeline folder with dual_encoder/")
    parser.add_argument("--recipe", required=True, help=f"the diffusion recipe; its [data] {selects}")
    parser.add_argument("--evaluator", type=Path, help="folder of a dual encoder (default: that of the model)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--guidance", dest="guidance_scale", type=float, default=4.0, help="guidance scale (default 4)")
    parser.add_argument("--steps", type=int, default=25, help="sampling steps (default 25)")
    parser.add_argument("--device", default=None, help="auto (default), cpu or cuda")
    parser.add_argument("--grid", type=Path, help="also write a PNG with generated images")
    return parser


def check_options(choice: argparse.Namespace, least: int = 1) -> None:
    """Check the options of a report command before the model is loaded and the images are decoded.

    Args:
        choice: the options; out, grid, steps, count and real are checked where the command has them.
        least: smallest value of count.

    Raises:
        BadInput: a file cannot be written, or a number is too small.
    """
    for name, what in (("out", "a JSON file"), ("grid", "a PNG file")):
        if path := getattr(choice, name, None):
            check_writable(path, what)
    for name, low in (("steps", 1), ("count", least), ("real", 1)):
        if (value := getattr(choice, name, None)) is not None and value < low:
            raise BadInput(f"--{name} must be {low} or more, not {value}.")


def opened(choice: argparse.Namespace) -> tuple[Path, DiffusionModel, DualEncoder, Recipe]:
    """Folder of the pipeline, the pipeline, the evaluator and the recipe.

    Raises:
        BadInput: an option is invalid (see `check_options`), one of them cannot be read, or neither the model nor
            `--evaluator` contains a dual encoder.
    """
    check_options(choice)
    folder, recipe = folder_of(choice.model), load_recipe(choice.recipe, "diffusion")
    scorer = choice.evaluator or folder / "dual_encoder"
    if not scorer.is_dir():
        raise BadInput(
            f"{folder} contains no pipeline with a dual_encoder/, which is needed to score its images; export the "
            "model with network.evaluator, or name a dual encoder with --evaluator."
        )
    model = load_model(choice.model, choice.device)
    return folder, model, DualEncoder.load(scorer, model.device), recipe


def folder_of(name: str) -> Path:
    """Folder that `load_model` loads: of a bundled model, otherwise a local one ("./emoji" is always local)."""
    return {model.name: model.folder for model in list_models()}.get(name, Path(name))
