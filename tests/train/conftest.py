"""A tiny folder of captioned images, and a fresh accelerate state for every test."""

import json
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image

from sfumato.data.splits import split_of_file

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220), "yellow": (235, 200, 30)}
SHAPES = ("disc", "square")


def draw(colour: tuple[int, int, int], shape: str, size: int) -> np.ndarray:
    """A coloured shape on white, uint8 [size,size,3]."""
    y, x = np.mgrid[:size, :size] / (size - 1) - 0.5
    inside = np.hypot(x, y) < 0.38 if shape == "disc" else np.maximum(abs(x), abs(y)) < 0.3
    return np.where(inside[..., None], np.uint8(colour), np.uint8(255))


def write_image_folder(folder: Path, size: int = 32) -> Path:
    """Write eight captioned images of the train split, in the imagefolder convention."""
    folder.mkdir(parents=True)
    lines, number = [], 0
    for colour, rgb in COLOURS.items():
        for shape in SHAPES:
            while split_of_file(name := f"{number}.png") != "train":
                number += 1
            number += 1
            Image.fromarray(draw(rgb, shape, size)).save(folder / name)
            lines.append(json.dumps({"file_name": name, "text": f"a {colour} {shape}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the eight images, 32 px."""
    return write_image_folder(tmp_path_factory.mktemp("own") / "images")


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """Accelerate keeps one state per process; a run of another precision would be refused."""
    yield
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
