"""Recipes: TOML files with the settings of a training run."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from sfumato.errors import BadInput
from sfumato.text_files import read_toml
from sfumato.train.ranges import check_ranges, ranged

T = TypeVar("T")

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclasses.dataclass(frozen=True)
class DataRecipe:
    """The training images: table [data] of a recipe.

    All attributes except `scenes`, `scene_share` and `crop` are arguments of
    `sfumato.data.dataset.CaptionedImages.open`.

    Attributes:
        folder: dataset folder.
        size: side of the images in pixels.
        styles: drawing styles; all by default.
        groups: groups of emoji; all by default.
        subgroups: subgroups of emoji; all by default.
        names: names of emoji without skin tone; all by default.
        min_styles: keep only emoji that at least this many of the styles contain.
        tones: include the images with a skin tone.
        scenes: number of scenes composed of one to three cut-outs (`sfumato.data.scenes.Scenes`); 0 for single images
            only.
        scene_share: share of the samples that are scenes, if `scenes` is not 0.
        crop: autoencoders only: side in pixels of the square crops to train on, chosen for their edges; 0 for complete
            images.
    """

    folder: str = "data/emoji"
    size: int = ranged(64, low=1)
    styles: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    subgroups: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    min_styles: int = 1
    tones: bool = True
    scenes: int = ranged(0, low=0)
    scene_share: float = ranged(0.5, low=0, high=1)
    crop: int = ranged(0, low=0)


@dataclasses.dataclass(frozen=True)
class OptimRecipe:
    """AdamW and its learning rate schedule: table [optim] of a recipe.

    Attributes:
        batch: batch size per process and micro-batch.
        accumulate: micro-batches per training step (gradient accumulation).
        lr: peak learning rate.
        betas: AdamW's exponential decay rates of the first and second moment.
        weight_decay: AdamW's weight decay; not applied to biases, norms and scalars.
        warmup: steps of the linear warm-up.
        decay_start: after this step the learning rate falls as 1/sqrt(step).
        clip: largest norm of the gradient; larger gradients are scaled down to it.
        ema: decay of the exponential moving average of the weights.
    """

    batch: int = ranged(32, low=1)
    accumulate: int = ranged(1, low=1)
    lr: float = ranged(1e-3, above=0)
    betas: tuple[float, float] = ranged((0.9, 0.99), low=0, below=1)
    weight_decay: float = ranged(0.01, low=0)
    warmup: int = ranged(100, low=0)
    decay_start: int = ranged(10_000_000, low=1)
    clip: float = ranged(1.0, above=0)
    ema: float = ranged(0.999, low=0, below=1)

    def lr_at(self, step: int) -> float:
        """Learning rate of step `step` (from 0). It does not depend on the number of steps of the run."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        return self.lr * warm * min(1.0, (self.decay_start / (step + 1)) ** 0.5)


@dataclasses.dataclass(frozen=True)
class RunRecipe:
    """Length, checkpoints, samples and precision of a run: table [run] of a recipe.

    Attributes:
        steps: training steps of the complete run.
        checkpoint_every: steps between two checkpoints.
        sample_every: steps between two sample images.
        log_every: steps between two lines of the log.
        keep: number of checkpoints to keep, at least 2.
        precision: "fp32", "bf16" or "fp16" (see `precision`), or "auto" for fp32 or bf16, whichever is faster on this
            machine (see `fastest`).
        compile: compile the networks with torch.compile. This takes minutes before the first step and makes the steps
            faster.
        channels_last: use the memory format torch.channels_last, which is faster for 16-bit convolutions on GPUs.
    """

    steps: int = ranged(100_000, low=1)
    checkpoint_every: int = ranged(500, low=1)
    sample_every: int = ranged(1000, low=1)
    log_every: int = ranged(10, low=1)
    keep: int = ranged(2, low=2)  # the newest one may be incomplete
    precision: str = "auto"
    compile: bool = False
    channels_last: bool = False


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of one training run.

    Attributes:
        kind: name of the training task, such as "diffusion".
        seed: seed of the initial weights and of all random draws, at most 10^18.
        data: table [data].
        optim: table [optim].
        run: table [run].
        network: table [network]; the task defines its settings.
        loss: table [loss]; the task defines its settings.
    """

    kind: str
    seed: int = ranged(0, low=0, high=10**18)
    data: DataRecipe = dataclasses.field(default_factory=DataRecipe)
    optim: OptimRecipe = dataclasses.field(default_factory=OptimRecipe)
    run: RunRecipe = dataclasses.field(default_factory=RunRecipe)
    network: dict[str, Any] = dataclasses.field(default_factory=dict)
    loss: dict[str, Any] = dataclasses.field(default_factory=dict)


def fill(cls: type[T], table: dict[str, Any], where: str) -> T:
    """Build an instance of the dataclass `cls` from a TOML table.

    Args:
        cls: the dataclass; its fields are the settings.
        table: the parsed table.
        where: name of the table in error messages.

    Raises:
        BadInput: a key is unknown or missing, or a value has the wrong type or is out of its range.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in fields:
            raise BadInput(f"{where} has no setting '{key}'; its settings are {', '.join(sorted(fields))}.")
    values = {k: _convert(v, hints[k], f"{where}.{k}") for k, v in table.items()}
    missing = [f.name for f in fields.values() if f.name not in values and _required(f)]
    if missing:
        raise BadInput(f"{where} lacks '{missing[0]}', which has no default; add it.")
    filled = cls(**values)
    check_ranges(filled, where)
    return filled


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(h for h in typing.get_args(hint) if h is not types.NoneType)
    origin = typing.get_origin(hint) or hint
    if dataclasses.is_dataclass(origin) and isinstance(value, dict):
        return fill(typing.cast(type, origin), value, where)
    if origin is tuple and isinstance(value, list):
        return _convert_list(value, typing.get_args(hint), where)
    if origin is tuple and not isinstance(value, tuple):
        example = f" such as {json.dumps([value])}" if type(value) is typing.get_args(hint)[0] else ""
        raise BadInput(f"{where} must be a list{example}, not {value!r}.")
    if origin is float and type(value) is int:
        return float(value)
    if (origin is not Any and not isinstance(value, origin)) or (origin is int and isinstance(value, bool)):
        raise BadInput(f"{where} must be {getattr(origin, '__name__', origin)}, not {value!r}.")
    return value


def _convert_list(values: list[Any], hints: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(values)
    if len(values) != len(hints):
        raise BadInput(f"{where} must have {len(hints)} entries, not {len(values)}.")
    return tuple(_convert(v, h, f"{where}[{i}]") for i, (v, h) in enumerate(zip(values, hints, strict=True)))


def load_recipe(path: Path | str, kind: str | None = None) -> Recipe:
    """Read a recipe file.

    Args:
        path: a TOML file, see `recipes/`.
        kind: the expected kind of training; None accepts every kind.

    Raises:
        BadInput: the file is missing or is not TOML, a setting is unknown or out of its range, or the recipe is of
            another kind.
    """
    path = Path(path)
    try:
        table = read_toml(path, "give a recipe, a TOML file")
    except BadInput as error:
        raise BadInput(f"cannot read the recipe, see recipes/ for examples: {error}") from error
    recipe = fill(Recipe, table, path.name)
    if kind is not None and recipe.kind != kind:
        raise BadInput(f"{path} is a recipe of kind '{recipe.kind}', not '{kind}'; run sfumato train {recipe.kind}.")
    if recipe.run.precision not in PRECISIONS:
        raise BadInput(f"{path.name}.run.precision must be auto, fp32, bf16 or fp16, not '{recipe.run.precision}'.")
    return recipe
