"""The settings that a benchmark compares: one method with its parameters each, named in a TOML file.

[[row]]
name = "ours, skip 20"
method = "edit-friendly"      # of `sfumato methods`, or "diffusers-ledits++", "diffusers-img2img", "unchanged"
skip = 20                     # parameters of the method; what is left out is the model's own default
seed = 0
residual = true               # give back what the autoencoder loses (sfumato's methods alone)
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sfumato.api import Model
from sfumato.api.arguments import resolve
from sfumato.errors import BadInput
from sfumato.methods.params import Params, options_of
from sfumato.methods.registry import METHODS
from sfumato.regular_files import open_regular
from sfumato.text_files import read_toml

#: Pipelines of diffusers, and the parameters that each takes.
PIPELINES = {
    "diffusers-ledits++": ("steps", "skip", "source_guidance_scale", "guidance_scale"),
    "diffusers-img2img": ("steps", "skip", "guidance_scale"),
}
#: The source as it is: what every edit must be better than, and how far the pictures are apart.
UNCHANGED = "unchanged"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class Setting:
    """One row of the comparison.

    Attributes:
        name: for tables.
        method: of sfumato, or of `PIPELINES`, or `UNCHANGED`.
        params: all parameters of the method, the defaults too once it is resolved.
        seed: of all noise.
        residual: whether sfumato's methods give back what the autoencoder loses.
        files: SHA-256 of the file that a parameter names, by the parameter's name; known once it is resolved.
    """

    name: str
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    residual: bool = True
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Twelve letters for everything but the name: the results of other settings are not taken for its own.

        Of a file its content counts, and not where it lies.
        """
        params = {**self.params, **self.files}
        said = json.dumps([self.method, params, self.seed, self.residual], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()[:12]


def read_settings(path: Path) -> list[Setting]:
    """The rows of a TOML file, not yet resolved.

    Raises:
        BadInput: a file that cannot be read, no rows, two of one name, or an unknown method.
    """
    table = read_toml(path, "give a TOML file of tables [[row]]")
    rows = table.get("row")
    if set(table) != {"row"} or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{path} must hold tables [[row]], each with a name and a method, and nothing else.")
    settings = [_setting(row, path) for row in rows]
    names = [each.name for each in settings]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"{path} has two rows called {min(twice)!r}: rename one.")
    return settings


def default_settings(model: Model) -> list[Setting]:
    """The sources, and every method that follows a prompt over every inversion that it takes, by the model's defaults.

    And diffusers' pipelines, where they can open the model's folder.
    """
    settings = [Setting(UNCHANGED, UNCHANGED)]
    for name, method in METHODS.items():
        if "condition" not in method.handles:
            continue
        option = options_of(method.params).get("inversion")
        choices = option.metadata.get("choices", ()) if option is not None else ()
        settings += [Setting(f"{name}, {choice}", name, {"inversion": choice}) for choice in choices]
        settings += [] if choices else [Setting(name, name)]
    return settings + [Setting(name, name) for name in (PIPELINES if is_pipeline(model.folder) else ())]


def compared(settings: Sequence[Setting], model: Model) -> list[Setting]:
    """All of them resolved.

    Raises:
        BadInput: as `resolved`; or two of them are the same but for their names.
    """
    named: dict[str, Setting] = {}
    for setting in (resolved(each, model) for each in settings):
        other = named.setdefault(setting.key, setting)
        if other is not setting:
            raise BadInput(f"rows {other.name!r} and {setting.name!r} are one setting under two names: leave one out.")
    return list(named.values())


def resolved(setting: Setting, model: Model) -> Setting:
    """The same with every parameter filled in and checked.

    Raises:
        BadInput: names the row, the parameter and its range.
    """
    try:
        if setting.method == UNCHANGED:
            return _without_params(setting)
        if setting.method in PIPELINES:
            return replace(setting, params=_pipeline_params(setting, model))
        method = METHODS.find(setting.method)
        params = resolve(
            model.network,
            method.params,
            setting.params,
            stages=("invert", "edit"),
            section=method.section,
            what=f"method {method.name}",
        )
    except BadInput as error:
        raise BadInput(f"row {setting.name!r}: {error}") from error
    return replace(setting, params=asdict(params), files=_files(params))


def is_pipeline(folder: Path | None) -> bool:
    """Whether diffusers' Stable Diffusion pipelines can open a model's folder."""
    return folder is not None and all((folder / part).is_dir() for part in _PARTS)


def _files(params: Params) -> dict[str, str]:
    """SHA-256 of the files that free text among the parameters names: banks of sentences, saved directions."""
    options = options_of(type(params)).items()
    named = {name: getattr(params, name) for name, each in options if each.type is str and not each.metadata["choices"]}
    there = {name: Path(path) for name, path in named.items() if os.path.isfile(path)}
    return {name: _digest(path) for name, path in there.items()}


def _digest(path: Path) -> str:
    with open_regular(path, "give a file") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _setting(row: dict[str, Any], path: Path) -> Setting:
    given = dict(row)
    name, method = given.pop("name", None), given.pop("method", None)
    seed, residual = given.pop("seed", 0), given.pop("residual", True)
    if not isinstance(name, str) or not name.strip() or not isinstance(method, str):
        raise BadInput(f"every [[row]] of {path} needs a name and a method, as text.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not isinstance(residual, bool):
        raise BadInput(f"row {name!r}: seed must be an integer, and residual true or false.")
    if not -(2**63) <= seed < 2**63:
        raise BadInput(f"row {name!r}: seed must lie between -2^63 and 2^63 - 1, not {seed}.")
    known = [*METHODS, *PIPELINES, UNCHANGED]
    if method not in known:
        raise BadInput(f"row {name!r}: there is no method {method!r}; choose one of {', '.join(known)}.")
    return Setting(name, method, given, seed, residual)


def _without_params(setting: Setting) -> Setting:
    if setting.params:
        raise BadInput(f"{UNCHANGED} has no options, so no {min(setting.params)!r}.")
    return setting


def _pipeline_params(setting: Setting, model: Model) -> dict[str, Any]:
    """The parameters of one of diffusers' pipelines; ranges as those of edit-friendly inversion, which has them all."""
    if not is_pipeline(model.folder):
        raise BadInput(f"{model.network.name or 'this model'} is not a Stable Diffusion folder, which diffusers needs.")
    takes = PIPELINES[setting.method]
    if unknown := sorted(set(setting.params) - set(takes)):
        raise BadInput(f"{setting.method} has no option {unknown[0]!r}; it takes {', '.join(takes)}.")
    like = resolved(Setting(setting.name, "edit-friendly", setting.params), model)
    return {name: like.params[name] for name in takes}
