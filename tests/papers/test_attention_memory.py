"""The memory benchmark runs, every case of it."""

import math

import pytest
import torch

from benchmarks.attention_memory import CASES, measure
from benchmarks.memory import CLEAR, peak_memory


@pytest.mark.parametrize("case", list(CASES))
def test_every_case_runs(case, tiny_sd_folder):
    peak = measure(case, str(tiny_sd_folder), 32, "cpu", 1)
    assert peak.peak is None or (math.isfinite(peak.peak) and peak.peak >= peak.before > 0)


@pytest.mark.skipif(not CLEAR.exists(), reason="the peak of a process is measured on Linux")
def test_the_peak_counts_what_is_let_go_again():
    with peak_memory("cpu") as peak:
        torch.ones(128, 2**18)  # 128 MiB
    assert 110 < peak.peak - peak.before < 200
