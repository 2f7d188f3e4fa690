"""The memory benchmark runs, every case of it."""

import math

import pytest

from benchmarks.attention_memory import CASES, measure


@pytest.mark.parametrize("case", list(CASES))
def test_every_case_runs(case, tiny_sd_folder):
    peak = measure(case, str(tiny_sd_folder), 32, "cpu", 1)
    assert peak.peak is None or (math.isfinite(peak.peak) and peak.peak >= peak.before > 0)
