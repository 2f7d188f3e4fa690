"""Parameters of a method: a frozen dataclass whose fields have a help text and a range.

The command line's flags, the checks and the contract tests are derived from these fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from sfumato.core.prompt import Prompt
from sfumato.errors import BadInput
from sfumato.ranges import Range, check_number

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.condition import Condition
    from sfumato.core.guidance import Guided
    from sfumato.models.diffusion_model import DiffusionModel

Stage = Literal["invert", "edit", "generate"]
PromptPair: TypeAlias = tuple[Prompt, Prompt]
"""Prompt of the source image and prompt describing the edited image."""
SHARED = ("skip", "guidance_scale")
"""Options of the run, with one value for all of its methods."""
GUIDANCE_SCALES = ("guidance_scale", "source_guidance_scale")
"""Options that are 1 for a model without text input."""
KINDS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
"""Types of options by the name that `from __future__ import annotations` leaves of them."""
AFTER = "after"
"""Key of a method's section in `sfumato.json`: defaults for other inversions than the preferred one, by their name."""


def option(
    default: Any,
    help: str,
    *,
    stage: Stage,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    after: Mapping[str, Any] | None = None,
    file: bool = False,
) -> Any:
    """One field of a `Params`.

    Args:
        default: value if neither the caller nor the model folder gives one.
        help: one sentence for the command line and the documentation.
        stage: the call that takes it.
        low: smallest allowed value.
        high: largest allowed value.
        above: exclusive lower limit.
        choices: allowed values of a text option; () for any text.
        after: other defaults, by the value of the option `inversion`, for methods with that option.
        file: names a file, folder or hub id that is opened; the defaults of a model folder cannot set it.
    """
    within = Range(low=low, high=high, above=above)
    metadata = {"help": help, "stage": stage, "range": within, "choices": choices, "after": dict(after or {})}
    metadata["file"] = file
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Params:
    """Base of every method's parameters.

    Attributes:
        needs_text: whether the method requires a model with text input.
    """

    needs_text: ClassVar[bool] = False

    @property
    def keeps_prompt(self) -> bool:
        """Whether an edit without a target prompt uses the source prompt."""
        return False

    def check(self) -> None:
        """Refuse values of the wrong type or out of range.

        Raises:
            BadInput: names the parameter and its range.
        """
        for each in fields(self):
            check_value(each, getattr(self, each.name))
        steps, skip = getattr(self, "steps", None), getattr(self, "skip", None)
        if steps is not None and skip is not None and skip >= steps:
            raise BadInput(f"skip must be between 0 and {steps - 1}, one less than the {steps} steps, not {skip}.")

    @property
    def files(self) -> Sequence[str]:
        """The paths in options that name local files or folders. Recipes contain their names and hashes instead."""
        return ()

    def check_files(self) -> None:
        """Check the files that options name. Raises BadInput for a file that cannot be used."""

    def check_inversion(self, network: "DiffusionModel") -> None:
        """Refuse a model that `inverted_under` cannot use, which is not evaluated. Raises BadInput."""

    def inverted_under(
        self, network: "DiffusionModel", guided: "Guided", condition: "Condition", x0: "Tensor"
    ) -> "tuple[Guided, Condition]":
        """Guidance and condition of the inversion and of the reconstruction; by default those of the source prompt.

        Args:
            network: the model.
            guided: the guidance of the source prompt.
            condition: the source prompt, one row per image.
            x0: the latents of the images, one row per image.
        """
        return guided, condition

    def uses_negative(self, guidance_scale: float) -> bool:
        """Whether a negative prompt has an effect at this guidance scale; at 1 it cancels."""
        return guidance_scale != 1

    def path(self, steps: int) -> list[int]:
        """Levels in the order in which the edit visits them, if it repeats steps; [] for each once.

        Args:
            steps: number of steps of the edit, without skipped ones; see `sfumato.core.path`.
        """
        return []

    def finish(self, edited: "Tensor", source: "Tensor | None", inside: "Tensor | None" = None) -> "Tensor":
        """What the method does to the decoded images, before a mask restores the source.

        Args:
            edited: the decoded images, [b,3,h,w] in about [-1,1].
            source: the source images, the same shape, in [-1,1]; None for generated images, which have none.
            inside: weights [b,1,h,w] in [0,1] with which the result replaces the source; None for everywhere.
        """
        return edited

    def notes(self, prompts: Sequence[tuple[str, str]]) -> list[str]:
        """Sentences about given prompts or options that had no effect, for the report.

        Args:
            prompts: source and target prompt of every image.
        """
        return []

    def check_run(self, network: "DiffusionModel", size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check parameters that depend on the model, the images or their prompts, such as words of a prompt.

        Args:
            network: the model; it is not evaluated.
            size: height and width of the latents.
            prompts: source and target prompt of every image; () for a model without text input, or one whose text
                encoders tokenise the prompts differently, so that positions of words are not defined.

        Raises:
            BadInput: names the parameter and the allowed values.
        """


def options_of(params: type[Params], stage: Stage | None = None) -> dict[str, Field[Any]]:
    """The fields of a method's parameters by name, all or those of one stage."""
    return {each.name: each for each in fields(params) if stage in (None, each.metadata["stage"])}


def defaults_of(params: type[Params], given: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the options: those of the model folder, else those of the method for the chosen inversion.

    Args:
        params: parameters of a method.
        given: options of the caller.
        tuned: defaults of the model folder, valid for the inversion that they were tuned with; those for another
            inversion are in `AFTER` under its name.
    """
    options = options_of(params)
    tuned_with = tuned.get("inversion", options["inversion"].default if "inversion" in options else None)
    chosen = given.get("inversion", tuned_with)
    after = {name: each.metadata["after"].get(str(chosen), each.default) for name, each in options.items()}
    own = tuned if chosen == tuned_with else tuned.get(AFTER, {}).get(str(chosen), {})
    return after | {name: value for name, value in own.items() if name in options}


def scaled_skip(values: dict[str, Any], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Scale a default `skip` with the number of steps, so that skip / steps stays that of the defaults.

    Args:
        values: all options, which are changed in place.
        defaults: the defaults of all options.
        given: options of the caller.
    """
    steps = values.get("steps")
    if "skip" in values and "skip" not in given and isinstance(steps, int) and steps >= 1:
        values["skip"] = min(round(defaults["skip"] * steps / defaults["steps"]), steps - 1)
    return values


def choices_of(params: type[Params], name: str) -> tuple[str, ...]:
    """Allowed values of a text option; () if the method has no such option or it takes any text."""
    each = options_of(params).get(name)
    return () if each is None else each.metadata["choices"]


def check_names(given: Mapping[str, Any], params: type[Params], stages: tuple[Stage, ...], what: str) -> None:
    """Refuse options that a call does not take.

    Raises:
        BadInput: lists the options that it takes.
    """
    known = {name for name, each in options_of(params).items() if each.metadata["stage"] in stages}
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "no options"
            raise BadInput(f"{what} has no option {name!r}; it takes {names}.")


def kind_of(each: Field[Any]) -> type:
    """The type of an option: bool, int, float or str.

    Raises:
        BadInput: the field has another type.
    """
    kind: Any = KINDS.get(each.type) if isinstance(each.type, str) else each.type
    if kind not in KINDS.values():
        raise BadInput(f"The option {each.name} has the type {each.type!r}: options are {', '.join(KINDS)}.")
    found: type = kind
    return found


def allowed(each: Field[Any]) -> str:
    """The allowed values of a field, e.g. "between 1 and 1000"."""
    if kind_of(each) is str:
        return f"one of {', '.join(each.metadata['choices'])}" if each.metadata["choices"] else "any text"
    return str(each.metadata["range"])


def check_value(each: Field[Any], value: Any) -> None:
    """Refuse a value of the wrong type or out of range.

    Raises:
        BadInput: names the field and its range.
    """
    kind = kind_of(each)
    if kind is bool:
        if not isinstance(value, bool):
            raise BadInput(f"{each.name} must be True or False, not {value!r}.")
        return
    if kind is str:
        if not isinstance(value, str) or value not in (each.metadata["choices"] or (value,)):
            raise BadInput(f"{each.name} must be {allowed(each)}, not {value!r}.")
        return
    check_number(each.name, value, kind, each.metadata["range"])
