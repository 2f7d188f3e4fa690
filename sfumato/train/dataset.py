"""Training data selected by a recipe, and the sample grids of a run."""

import logging
from collections.abc import Sequence
from io import BytesIO
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
from sfumato.files import printable, write_bytes
from sfumato.images.sheet import contact_sheet
from sfumato.train.processes import is_first, refuse_different_images
from sfumato.train.recipe import Recipe

_LOG = logging.getLogger(__name__)
_NAMED = 5
"""Largest number of unreadable images that the log names."""


class TrainingData(Protocol):
    """Dataset of captioned images that the training tasks sample from.

    Implemented by `sfumato.data.dataset.CaptionedImages` and `sfumato.data.scenes.Scenes`.
    """

    def __len__(self) -> int:
        """Number of images."""

    def caption(self, i: int, generator: np.random.Generator | None = None) -> str:
        """Caption of image `i`: the main one, or with `generator` a random variant of it."""

    def texts(self) -> Sequence[str]:
        """Texts to train a tokenizer on; they include most captions."""

    def pixels(self, items: Sequence[int]) -> np.ndarray:
        """The images with the indices `items`, uint8 [n,3,size,size]."""

    def sampling_weights(self) -> np.ndarray:
        """Sampling probability of each image: float64 [n], sum 1."""


def exported_folder(path: str) -> Path:
    """Folder of an exported model that a recipe names.

    Raises:
        BadInput: the folder contains no exported model (no config.json).
    """
    if not Path(path, "config.json").is_file():
        raise BadInput(
            f"{path} contains no exported model; train it first (see recipes/) or correct the recipe's [network]."
        )
    return Path(path)


def draw_captions(data: TrainingData, rows: Tensor, generator: torch.Generator) -> list[str]:
    """Random captions of the images with the indices `rows` (int64 [b]), one per image."""
    varied = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    return [data.caption(row, varied) for row in rows.tolist()]


def draw_pixels(data: TrainingData, rows: Tensor, device: torch.device | str) -> Tensor:
    """The images with the indices `rows` (int64 [b]) on `device`, float [b,3,h,w] in [-1,1].

    They are transferred as uint8, a quarter of the bytes of float32, and scaled on the device.
    """
    return torch.from_numpy(data.pixels(rows.tolist())).to(device).float() / 127.5 - 1


def open_data(recipe: Recipe) -> TrainingData:
    """Open the training data of a recipe.

    Returns:
        The images of the split "train"; with `data.scenes` > 0 also scenes composed of them.

    Raises:
        BadInput: see `open_images`; or `data.scenes` > 0 with a folder that has no bounding boxes to cut objects out.
    """
    images = open_images(recipe)
    if not recipe.data.scenes:
        return images
    return Scenes(images, recipe.data.folder, recipe.data.scenes, recipe.seed, recipe.data.scene_share)


def open_images(recipe: Recipe, split: str | None = "train", count: int | None = None) -> CaptionedImages:
    """Open the single images that a recipe selects, without scenes.

    Images of a folder that cannot be read are left out, with their captions; the log gives their number and names the
    first ones.

    Args:
        recipe: its table [data] selects the images.
        split: "train", "test" or "cells"; None for all.
        count: largest number of images; None for all.

    Raises:
        BadInput: see `CaptionedImages.open`; or the processes of a run can read different images.
        NothingLeft: the selection contains no image.
    """
    data = recipe.data
    try:
        images = CaptionedImages.open(
            Path(data.folder), size=data.size, styles=data.styles, split=split, tones=data.tones,
            min_styles=data.min_styles, groups=data.groups, subgroups=data.subgroups, names=data.names,
            count=count,
        )  # fmt: skip
    except NothingLeft as error:
        if split is None or Path(data.folder, TABLE).is_file():
            raise
        raise NothingLeft(
            f"no image of {data.folder} is in the split '{split}': one file in {HOLDOUT}, chosen by a hash of its "
            "name, is held out as 'test', all others are 'train'; add images, or rename one."
        ) from error
    refuse_different_images(images.table["file"].to_pylist(), data.folder)
    if is_first():
        _log_unreadable(images, data.folder)
    return images


def _log_unreadable(images: CaptionedImages, folder: str) -> None:
    for sentence in images.unreadable[:_NAMED]:
        _LOG.warning("left out: %s", sentence)
    if count := len(images.unreadable):
        total = count + len(images)
        _LOG.warning("left out because they cannot be read: %d of the %d images of %s", count, total, printable(folder))


def save_grid(path: Path, rows: list[Tensor], title: str) -> None:
    """Write rows of images in [-1,1] ([n,3,h,w] each) as one titled PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells: list[list[np.ndarray]] = [
        list(((row.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()) for row in rows
    ]
    content = BytesIO()
    Image.fromarray(contact_sheet(cells, title=title)).save(content, "PNG")
    write_bytes(path, content.getbuffer())
