"""A claim of a paper beside what was measured, and what the measurements belong to."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import sfumato


@dataclass(frozen=True)
class Claim:
    """What the paper says, what was measured here, and whether they agree."""

    claim: str
    measured: str
    holds: bool


def as_json(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """For numbers.json."""
    return [asdict(claim) for claim in claims]


def claims_table(claims: Sequence[Claim]) -> list[str]:
    """Lines of Markdown."""
    rows = []
    for each in claims:
        claim, measured = (text.replace("|", "\\|") for text in (each.claim, each.measured))
        rows.append(f"| {claim} | {measured} | {'yes' if each.holds else '**no**'} |")
    return ["| the paper says | measured | holds |", "| --- | --- | --- |", *rows]


def about_model(model: sfumato.Model) -> dict[str, Any]:
    """Which weights the numbers belong to."""
    network = model.network
    name = Path(network.name).name if Path(network.name).is_dir() else network.name
    return {"name": name, "fingerprint": network.fingerprint(), "prediction": network.schedule.prediction_type}


def about_machine(model: sfumato.Model) -> dict[str, Any]:
    """Where the numbers were measured; rounding depends on it."""
    device = model.network.device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {platform.machine()}"
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": kind,
        "threads": torch.get_num_threads(),
    }


def as_sentence(numbers: dict[str, Any]) -> str:
    """Model and machine in one line beneath a table."""
    model, where = numbers["model"], numbers["environment"]
    about = f"Model {model['name']} (weights {model['fingerprint'][:12]}), torch {where['torch']}, {where['device']}, "
    return f"{about}{where['threads']} threads."


def say(what: str) -> None:
    """Progress, on stderr."""
    print(f"{what} ...", file=sys.stderr, flush=True)
