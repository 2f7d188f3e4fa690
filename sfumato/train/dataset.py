"""The pictures and captions of a recipe, and the grids that show how a run is doing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.corpus import TABLE
from sfumato.data.dataset import CaptionedImages, NothingLeft
from sfumato.data.scenes import Scenes
from sfumato.data.splits import HOLDOUT
from sfumato.errors import BadInput
from sfumato.images.sheet import contact_sheet
from sfumato.train.recipe import Recipe


class TrainingData(Protocol):
    """Pictures with captions, as the training tasks draw them; `CaptionedImages` and `Scenes` are such."""

    def __len__(self) -> int:
        """How many pictures."""

    def caption(self, i: int, generator: np.random.Generator | None = None) -> str:
        """The main caption of picture `i`, or one that `generator` varies."""

    def texts(self) -> Sequence[str]:
        """The texts that a tokenizer learns its words from; most captions are among them."""

    def pixels(self, items: Sequence[int]) -> np.ndarray:
        """Some pictures, uint8 [n,3,size,size]."""

    def sampling_weights(self) -> np.ndarray:
        """How likely each picture is drawn: float64 [n] that sum to 1."""


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


def draw_captions(data: TrainingData, rows: Tensor, generator: torch.Generator) -> list[str]:
    """One caption for each row, varied by a draw from `generator`."""
    varied = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    return [data.caption(row, varied) for row in rows.tolist()]


def draw_pixels(data: TrainingData, rows: Tensor, device: torch.device | str) -> Tensor:
    """The pictures of `rows` on `device`, float [b,3,h,w] in [-1,1]. They travel as bytes, a quarter of that."""
    return torch.from_numpy(data.pixels(rows.tolist())).to(device).float() / 127.5 - 1


def open_data(recipe: Recipe) -> TrainingData:
    """What a recipe trains on: its pictures of the split "train", and with `data.scenes` scenes composed of them.

    Raises:
        BadInput: as `open_pictures`; scenes are wanted of a folder without cut-outs.
    """
    pictures = open_pictures(recipe)
    if not recipe.data.scenes:
        return pictures
    return Scenes(pictures, recipe.data.folder, recipe.data.scenes, recipe.seed)


def open_pictures(recipe: Recipe, split: str | None = "train", count: int | None = None) -> CaptionedImages:
    """The single pictures of a recipe; of the split "train" unless another is given, and at most `count` of them.

    Raises:
        BadInput: as `CaptionedImages.open`; where nothing is left, `NothingLeft`.
    """
    data = recipe.data
    try:
        return CaptionedImages.open(
            Path(data.folder), size=data.size, styles=data.styles, split=split, tones=data.tones,
            min_styles=data.min_styles, groups=data.groups, subgroups=data.subgroups, count=count,
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
