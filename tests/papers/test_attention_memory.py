"""Every case of the memory benchmark runs."""

import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from benchmarks.attention_memory import CASES, measure
from benchmarks.memory import CLEAR, peak_memory
from benchmarks.stand_in import build
from sfumato.models.layout import attention_layers, decoder
from sfumato.models.load import load_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", list(CASES))
def test_every_case_runs(case, tiny_sd_folder):
    peak = measure(case, str(tiny_sd_folder), 32, "cpu", 1)
    assert peak.peak is None or (math.isfinite(peak.peak) and peak.peak >= peak.before > 0)


def test_stand_in_has_the_layers_of_stable_diffusion(tmp_path):
    """Layer counts of the published configuration of Stable Diffusion 1.5; the widths differ."""
    build(tmp_path, unet=32, vae=32, text=64, layers=1)
    network = load_model(str(tmp_path), "cpu")
    assert network.latent_shape(512, 512) == (4, 64, 64)
    assert network.text_encoders[0].context == 77
    assert len(decoder(network.unet)) == 12
    for cross in (True, False):
        assert len(attention_layers(network.unet, (64, 64), cross=cross, most_queries=64 * 64)) == 16
        assert len(attention_layers(network.unet, (64, 64), cross=cross, most_queries=16 * 16)) == 6
    with network.counting() as count, torch.no_grad():
        network.predict(torch.zeros(1, 4, 16, 16), 500, network.condition(["red heart"]))
    assert (count.calls, count.samples) == (1, 1)


@pytest.mark.skipif(not CLEAR.exists(), reason="the peak of a process is measured on Linux")
def test_peak_includes_released_memory():
    """In a new process: in a large one, the kernel may reclaim as much memory in the meantime."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        grown = pool.submit(growth, 256).result()
    assert 200 < grown < 400


def growth(mib):
    """The increase of a process's peak memory when it allocates `mib` MiB and releases them."""
    with peak_memory("cpu") as peak:
        torch.ones(mib, 2**18)
    return peak.peak - peak.before
