"""`sfumato doctor`: installed packages, selected device, and a self-check of inversion and reconstruction."""

import platform
import re
from argparse import Namespace
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from sfumato import __version__
from sfumato.cli.defaults import default_model
from sfumato.cli.methods import warn_of
from sfumato.cli.model_flags import add_model_name
from sfumato.cli.parser import CommandParser
from sfumato.cli.quiet import quiet_libraries
from sfumato.cli.report import print_json, print_table, say

#: Sampling steps of the self-check.
_STEPS = 10
#: Largest error in the latents that the self-check accepts; with `exact`, only a defect makes it larger.
_TOLERATED = 1e-5


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the model and the device of the self-check."""
    parser.usage = "sfumato doctor [--model NAME] [--device NAME] [--json]"
    add_model_name(parser, "model of the self-check")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1 or mps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato doctor")


def run(arguments: Namespace) -> int:
    """Print the findings; the exit code is 1 if the self-check fails."""
    from sfumato.editing.registry import METHODS
    from sfumato.inversion.registry import INVERSIONS
    from sfumato.metrics import METRICS
    from sfumato.plugins import Registry
    from sfumato.train.registry import TASKS

    quiet_libraries()
    registries: dict[str, Registry[Any]] = {
        "methods": METHODS,
        "inversions": INVERSIONS,
        "metrics": METRICS,
        "tasks": TASKS,
    }
    unloaded = [failure for registry in registries.values() for failure in registry.unloaded]
    core, extras = _packages()
    check = _check(arguments.model, arguments.device)
    findings = {
        "sfumato": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": _device(arguments.device),
        "default_model": vars(default_model()),
        "packages": core,
        "extras": extras,
        **{name: list(registry) for name, registry in registries.items()},
        "unloaded": [vars(failure) for failure in unloaded],
        "check": check,
    }
    if arguments.json:
        print_json(findings)
    else:
        _print(findings)
    warn_of(unloaded)
    return 0 if check["works"] else 1


def _packages() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]]]:
    """Versions of the required packages, and of the packages of each extra; None for a missing package."""
    core: dict[str, str | None] = {}
    extras: dict[str, dict[str, str | None]] = {}
    try:
        declared = requires("sfumato") or []
    except PackageNotFoundError:  # the source folder is used without installation
        return core, extras
    for requirement in declared:
        name = re.split(r"[^\w.-]", requirement)[0]
        extra = requirement.partition("extra == ")[2].strip("\"'")
        if extra != "dev":
            (extras.setdefault(extra, {}) if extra else core)[name] = _version(name)
    return core, extras


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(name: str) -> str:
    import torch

    from sfumato.devices import pick_device
    from sfumato.errors import BadInput

    try:
        device = pick_device(name)
    except BadInput as error:
        return str(error)
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {torch.get_num_threads()} threads"


def _check(model: str, device: str) -> dict[str, Any]:
    """Invert and reconstruct an example image; return the success and the error of the latents."""
    import sfumato
    from sfumato.examples import examples

    example = examples()[0]
    try:
        loaded = sfumato.load(model, device=device)
        prompt = example.source if loaded.network.takes_text else ""
        inverted = loaded.invert(example.path, prompt, steps=_STEPS, exact=True)
        report = inverted.reconstruct().report
    except Exception as error:  # this command reports every failure as its result
        sentence = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return {"works": False, "model": model, "reason": sentence}
    largest = report["reconstruction_latent_max_error"]
    return {
        "works": largest <= _TOLERATED,
        "model": model,
        "reason": f"inversion and reconstruction in {_STEPS} steps, largest error of the latents {largest:.2g}"
        + ("" if largest <= _TOLERATED else f", more than {_TOLERATED:g}"),
        "reconstruction_latent_max_error": largest,
        "seconds": round(inverted.report["seconds"] + report["seconds"], 3),
    }


def _print(findings: dict[str, Any]) -> None:
    say(f"sfumato {findings['sfumato']}, Python {findings['python']} on {findings['platform']}")
    say(f"device    {findings['device']}")
    say("model     {name} ({origin})".format(**findings["default_model"]))
    packages = findings["packages"]
    say("packages  " + (", ".join(f"{n} {v or 'MISSING'}" for n, v in packages.items()) or "not installed with pip"))
    rows = []
    for extra, members in findings["extras"].items():
        missing = [name for name, found in members.items() if found is None]
        present = ", ".join(f"{name} {found}" for name, found in members.items() if found)
        hint = f"pip install 'sfumato[{extra}]'  ({', '.join(missing)} missing)"
        rows.append(["extra   ", extra, hint if missing else present])
    print_table(rows)
    say("methods   " + ", ".join(findings["methods"]))
    check = findings["check"]
    say(f"{'works' if check['works'] else 'FAILS'}     {check['model']}: {check['reason']}")
    if not check["works"]:
        say("sfumato: the self-check failed.", error=True)
