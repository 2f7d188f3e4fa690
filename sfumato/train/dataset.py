"""The pictures and captions of a recipe, and the grids that show how a run is doing."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.corpus import TABLE
from sfumato.data.dataset import CaptionedImages, NothingLeft
from sfumato.data.splits import HOLDOUT
from sfumato.errors import BadInput
from sfumato.images.sheet import contact_sheet
from sfumato.train.recipe import Recipe


def exported_folder(path: str) -> Path:
    """The folder of a model that a recipe builds on.

    Raises:
        BadInput: nothing was exported there.
    """
    if not Path(path, "config.json").is_file():
        raise BadInput(
            f"{path} holds no exported model; train it first (see recipes/) or correct the recipe's [network]."
        )
    return Path(path)


def draw_captions(data: CaptionedImages, rows: Tensor, generator: torch.Generator) -> list[str]:
    """One caption for each row, varied by a draw from `generator`."""
    varied = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    return [data.caption(row, varied) for row in rows.tolist()]


def draw_pixels(data: CaptionedImages, rows: Tensor, device: torch.device | str) -> Tensor:
    """The pictures of `rows` on `device`, float [b,3,h,w] in [-1,1]. They travel as bytes, a quarter of that."""
    return torch.from_numpy(data.images[rows.numpy()]).to(device).float() / 127.5 - 1


def open_data(recipe: Recipe, split: str | None = "train", count: int | None = None) -> CaptionedImages:
    """The pictures of a recipe; only the `train` split unless another is asked for, and at most `count` of them.

    Raises:
        BadInput: as `CaptionedImages.open`; where nothing is left, `NothingLeft`.
    """
    data = recipe.data
    try:
        return CaptionedImages.open(
            Path(data.folder), size=data.size, styles=data.styles, split=split, tones=data.tones,
            min_styles=data.min_styles, groups=data.groups, count=count,
        )  # fmt: skip
    except NothingLeft as error:
        if split is None or Path(data.folder, TABLE).is_file():
            raise
        raise NothingLeft(
            f"no picture of {data.folder} is in the split '{split}': one file in {HOLDOUT}, chosen by its name, is "
            "held out as 'test', all others are 'train'; add pictures, or give one another name."
        ) from error


def save_grid(path: Path, rows: list[Tensor], title: str) -> None:
    """Write rows of pictures in [-1,1] ([n,3,h,w] each) as one titled PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells: list[list[np.ndarray]] = [
        list(((row.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()) for row in rows
    ]
    Image.fromarray(contact_sheet(cells, title=title)).save(path)
