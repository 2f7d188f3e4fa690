"""A claim of a paper with its measurement, and the model and machine of the measurements."""

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
    """A claim of the paper, the measurement, and whether the measurement confirms the claim."""

    claim: str
    measured: str
    holds: bool


def as_json(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """The claims as JSON values, for numbers.json."""
    return [asdict(claim) for claim in claims]


def claims_table(claims: Sequence[Claim]) -> list[str]:
    """The claims as lines of a Markdown table."""
    rows = []
    for each in claims:
        claim, measured = (text.replace("|", "\\|") for text in (each.claim, each.measured))
        rows.append(f"| {claim} | {measured} | {'yes' if each.holds else '**no**'} |")
    return ["| claim of the paper | measured | holds |", "| --- | --- | --- |", *rows]


def about_model(model: sfumato.Model) -> dict[str, Any]:
    """Name, weight fingerprint and prediction type of the measured model."""
    network = model.network
    name = Path(network.name).name if Path(network.name).is_dir() else network.name
    return {"name": name, "fingerprint": network.fingerprint(), "prediction": network.schedule.prediction_type}


def about_machine(model: sfumato.Model) -> dict[str, Any]:
    """Versions, device and threads of the measurement, on which rounding depends."""
    device = model.network.device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {platform.machine()}"
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": kind,
        "threads": torch.get_num_threads(),
    }


def as_sentence(numbers: dict[str, Any]) -> str:
    """Model and machine in one line, for the end of a table."""
    model, where = numbers["model"], numbers["environment"]
    about = f"Model {model['name']} (weights {model['fingerprint'][:12]}), torch {where['torch']}, {where['device']}, "
    return f"{about}{where['threads']} threads."


def say(what: str) -> None:
    """Print progress on stderr."""
    print(f"{what} ...", file=sys.stderr, flush=True)
