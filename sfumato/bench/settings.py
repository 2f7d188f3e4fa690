"""The settings that a benchmark compares; each is a method with parameters, read from a TOML file.

[[row]]
name = "ours, skip 20"
method = "edit-friendly"      # of `sfumato methods`, or "diffusers-ledits++", "diffusers-img2img", "unchanged"
skip = 20                     # parameters of the method; the others have the model's defaults
seed = 0
residual = true               # add the residual of the autoencoder (methods of sfumato only)
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sfumato.api import Model
from sfumato.api.arguments import check_seeds
from sfumato.api.parameters import resolve_of
from sfumato.api.words_of_diffusers import renamed
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.models.index import read_index
from sfumato.options.params import Params, options_of
from sfumato.regular_files import content_hash
from sfumato.text_files import read_toml

#: Pipelines of diffusers and the parameters of each.
PIPELINES = {
    "diffusers-ledits++": ("steps", "skip", "source_guidance_scale", "guidance_scale"),
    "diffusers-img2img": ("steps", "skip", "guidance_scale"),
}
#: The baseline that returns the source unchanged; its metrics measure the distance between source and target.
UNCHANGED = "unchanged"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class Setting:
    """One row of the comparison.

    Attributes:
        name: name in tables.
        method: a method of sfumato, one of `PIPELINES`, or `UNCHANGED`.
        params: parameters of the method; `resolved` adds the defaults.
        seed: seed of all noise.
        residual: whether methods of sfumato add the residual of the autoencoder.
        files: local file or folder that a parameter names -> its SHA-256; `resolved` fills it.
    """

    name: str
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    residual: bool = True
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash (12 hexadecimal digits) of everything but the name, which identifies the results of this setting.

        Files count by their content, not by their path: paths in texts are replaced by the hashes of the files.
        """
        longest_first = sorted(self.files, key=len, reverse=True)  # one path may be a prefix of another
        paths = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        params = {
            name: paths.sub(lambda found: self.files[found[0]], value) if isinstance(value, str) else value
            for name, value in self.params.items()
        }
        content = json.dumps([self.method, params, self.seed, self.residual], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def read_settings(path: Path) -> list[Setting]:
    """Read the settings of a TOML file, not yet resolved.

    Raises:
        BadInput: the file cannot be read or has no rows, two rows have the same name, or a method is unknown.
    """
    table = read_toml(path, "give a TOML file of tables [[row]]")
    rows = table.get("row")
    if set(table) != {"row"} or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{path} must contain only tables [[row]], each with a name and a method.")
    if not rows:
        raise BadInput(f"{path} has no rows: add tables [[row]], or leave --rows out to compare the default settings.")
    settings = [_setting(row, path) for row in rows]
    names = [each.name for each in settings]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"{path} has two rows called {min(twice)!r}: rename one.")
    return settings


def default_settings(model: Model) -> list[Setting]:
    """The settings that are compared by default, with the model's default parameters.

    These are the unchanged source, every method that edits by a target prompt alone, with every inversion it supports,
    and diffusers' pipelines, if they can open the model's folder and the model has no additions such as LoRAs.
    """
    settings = [Setting(UNCHANGED, UNCHANGED)]
    for name, method in METHODS.items():
        if "condition" not in method.handles or method.params.needs:
            continue
        option = options_of(method.params).get("inversion")
        choices = option.metadata.get("choices", ()) if option is not None else ()
        settings += [Setting(f"{name}, {choice}", name, {"inversion": choice}) for choice in choices]
        settings += [] if choices else [Setting(name, name)]
    usable = is_pipeline(model) and not model.network.additions
    return settings + [Setting(name, name) for name in (PIPELINES if usable else ())]


def compared(settings: Sequence[Setting], model: Model) -> list[Setting]:
    """Resolve all settings.

    Raises:
        BadInput: as `resolved`; or two settings differ only in their names.
    """
    named: dict[str, Setting] = {}
    for setting in (resolved(each, model) for each in settings):
        other = named.setdefault(setting.key, setting)
        if other is not setting:
            raise BadInput(f"rows {other.name!r} and {setting.name!r} are one setting under two names: remove one.")
    return list(named.values())


def resolved(setting: Setting, model: Model) -> Setting:
    """A copy of the setting with all parameters filled in and checked.

    Raises:
        BadInput: names the row, the parameter and its range.
    """
    try:
        if not setting.residual and setting.method in (UNCHANGED, *PIPELINES):
            raise BadInput(f"{setting.method} never adds the residual of the autoencoder: leave residual out.")
        if setting.method == UNCHANGED:
            return _without_params(setting)
        if setting.method in PIPELINES:
            return replace(setting, params=_pipeline_params(setting, model))
        method = METHODS.find(setting.method)
        params = resolve_of(model.network, method, renamed(setting.params, "plan"), f"method {method.name}")
        return replace(setting, params=asdict(params), files=_files(params))
    except BadInput as error:
        raise BadInput(f"row {setting.name!r}: {error}") from error


def is_pipeline(model: Model) -> bool:
    """Whether diffusers' text-to-image pipelines of Stable Diffusion 1 and 2 can open the model's folder."""
    if model.folder is None or model.network.map_channels:
        return False
    kinds = read_index(model.folder).kinds
    return set(kinds) == set(_PARTS) and (kinds["unet"], kinds["vae"]) == ("UNet2DConditionModel", "AutoencoderKL")


def _files(params: Params) -> dict[str, str]:
    """SHA-256 of the local files and folders that parameters name, such as delta-h, style images and encoders."""
    named = [getattr(params, name) for name, each in options_of(type(params)).items() if each.metadata["file"]]
    there = [path for path in named if path and Path(path).exists()]
    return {path: content_hash(Path(path)) for path in dict.fromkeys([*params.files, *there])}


def _setting(row: dict[str, Any], path: Path) -> Setting:
    given = dict(row)
    name, method = given.pop("name", None), given.pop("method", None)
    seed, residual = given.pop("seed", 0), given.pop("residual", True)
    if not isinstance(name, str) or not name.strip() or not isinstance(method, str):
        raise BadInput(f"every [[row]] of {path} needs a name and a method, as text.")
    if not isinstance(residual, bool):
        raise BadInput(f"row {name!r}: residual must be true or false.")
    try:
        check_seeds([seed])
    except BadInput as error:
        raise BadInput(f"row {name!r}: {error}") from error
    if seed >= 2**63:
        raise BadInput(f"row {name!r}: seed must lie between 0 and 2^63 - 1, not {seed}.")
    known = [*METHODS, *PIPELINES, UNCHANGED]
    if method not in known:
        raise BadInput(f"row {name!r}: there is no method {method!r}: choose one of {', '.join(known)}.")
    return Setting(name, method, given, seed, residual)


def _without_params(setting: Setting) -> Setting:
    if setting.params:
        raise BadInput(f"{UNCHANGED} has no options, so remove {min(setting.params)!r}.")
    return setting


def _pipeline_params(setting: Setting, model: Model) -> dict[str, Any]:
    """The parameters of a diffusers pipeline; ranges and defaults are those of "edit-friendly", which has them all."""
    if not is_pipeline(model):
        raise BadInput(f"{model.network.name or 'this model'} is not a Stable Diffusion folder, which diffusers needs.")
    if added := model.network.additions:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in added)
        raise BadInput(f"{setting.method} loads the model's folder without {flags}: remove this row, or these options.")
    takes = PIPELINES[setting.method]
    if unknown := sorted(set(setting.params) - set(takes)):
        raise BadInput(f"{setting.method} has no option {unknown[0]!r}: use {', '.join(takes)}.")
    like = resolved(Setting(setting.name, "edit-friendly", setting.params), model)
    return {name: like.params[name] for name in takes}
