"""Utilities of all benchmarks: flags, description of the machine, tables and output."""

import argparse
import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch

import sfumato
from papers.page import insert, reported


def add_measuring(parser: argparse.ArgumentParser, *, repeats: int) -> None:
    """Add the flags of every benchmark; `repeats` is the default of --repeats."""
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="threads of torch; default torch's own choice")
    parser.add_argument("--repeats", type=int, default=repeats, help="number of measured rounds")
    parser.add_argument("--out", type=Path, help="JSON file for all results")
    parser.add_argument("--page", type=Path, help="Markdown page to insert the table into")
    parser.add_argument("--quick", action="store_true", help="a tiny random model: a smoke test")


def measured(script: str, given: argparse.Namespace, work: Callable[[argparse.Namespace], None]) -> int:
    """Run `work` with the threads of the command line. Returns an exit code, see `reported`."""
    if given.threads:
        torch.set_num_threads(given.threads)
    return reported(script, given, work)


def environment(device: str) -> dict[str, Any]:
    """CPU, device, versions, threads and load of the machine."""
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": names[0].partition(": ")[2] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "sfumato": sfumato.__version__,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table with a name and its cells in every row; missing cells are empty."""
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name, cells in rows.items():
        lines.append(f"| {name} | {' | '.join([*cells, *[''] * (len(columns) - len(cells))])} |")
    return "\n".join(lines)


def publish(given: argparse.Namespace, fragment: str, everything: Mapping[str, Any]) -> None:
    """Print the fragment; write the JSON to --out and insert the fragment into --page, if they are given.

    Raises:
        BadInput: the page does not exist or lacks the marks.
    """
    print(fragment)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    if given.page is not None:
        insert(given.page, fragment)
