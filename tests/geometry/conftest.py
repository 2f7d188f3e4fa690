"""Tiny networks in float64, so that derivatives can be compared to many digits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sfumato.core.noise import gaussian_batch
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model
from tests.tiny import tiny_sd

PROMPTS = ["red cat", "blue dog"]
T = 601


def latents(network: DiffusionModel, rows: int = 2, height: int = 8, width: int = 8) -> torch.Tensor:
    """Random latents x_t in float64."""
    shape = (network.latent_channels, height, width)
    return gaussian_batch(shape, list(range(rows)), tag="test", dtype=torch.float64)


def condition(network: DiffusionModel, rows: int = 2):
    """One prompt per row; None for a network without text."""
    return network.condition(PROMPTS[:rows]) if network.takes_text else None


@pytest.fixture(scope="session")
def networks(tiny_folder: Callable[[str], Path]) -> Callable[[str], DiffusionModel]:
    """The network of a layout in float64."""
    loaded: dict[str, DiffusionModel] = {}

    def network(layout: str) -> DiffusionModel:
        if layout not in loaded:
            loaded[layout] = load_model(tiny_folder(layout), "cpu")
            loaded[layout].unet.double()
        return loaded[layout]

    return network


@pytest.fixture
def network(networks, layout) -> DiffusionModel:
    """The network of each layout in turn."""
    return networks(layout)


@pytest.fixture(scope="session")
def broad(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """A float64 network whose summed bottleneck has 64 dimensions, enough for 50 directions."""
    folder = tiny_sd(tmp_path_factory.mktemp("broad") / "sd", block_out_channels=(16, 64))
    network = load_model(folder, "cpu")
    network.unet.double()
    return network
