"""Parameters of a method: a frozen dataclass whose fields say what they mean and which values they take.

The command line's flags, the checks and the contract tests are derived from these fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from sfumato.core.prompt import Prompt
from sfumato.errors import BadInput
from sfumato.ranges import Range, check_number

if TYPE_CHECKING:
    from sfumato.models.diffusion_model import DiffusionModel

Stage = Literal["invert", "edit", "generate"]
PromptPair: TypeAlias = tuple[Prompt, Prompt]
"""Prompt of the source image and prompt describing the edited image."""
AFTER = "after"
"""In a model's own defaults of a method: those for other inversions than the method's own, by the inversion's name."""


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
) -> Any:
    """One field of a `Params`.

    Args:
        default: its value when neither the caller nor the model's folder says otherwise.
        help: what it does, for people.
        stage: which call takes it.
        low: smallest allowed value.
        high: largest allowed value.
        above: the value must be larger than this.
        choices: the words that a text option takes; () for any text.
        after: other defaults, by the value of the option `inversion`, where a method has that.
    """
    within = Range(low=low, high=high, above=above)
    metadata = {"help": help, "stage": stage, "range": within, "choices": choices, "after": dict(after or {})}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Params:
    """Base of every method's parameters.

    Attributes:
        needs_text: whether the method means nothing to a model without text input.
    """

    needs_text: ClassVar[bool] = False

    @property
    def keeps_prompt(self) -> bool:
        """Whether an edit without a target prompt is one under the source prompt."""
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

    def check_files(self) -> None:
        """Refuse files that are named and cannot be used. Raises BadInput."""

    def uses_negative(self, guidance_scale: float) -> bool:
        """Whether a negative prompt makes a difference at this guidance scale: at 1 it cancels."""
        return guidance_scale != 1

    def check_run(self, network: "DiffusionModel", size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Refuse what does not go with the model, the pictures or their prompts: a named word that is missing, say.

        Args:
            network: the model; nothing is evaluated.
            size: height and width of the latents.
            prompts: source and target of every picture; none for a model without text, or one whose text encoders
                split prompts differently, so that words have no one place.

        Raises:
            BadInput: names the parameter and what would do.
        """


def options_of(params: type[Params], stage: Stage | None = None) -> dict[str, Field[Any]]:
    """The fields of a method's parameters by name, all or those of one stage."""
    return {each.name: each for each in fields(params) if stage in (None, each.metadata["stage"])}


def defaults_of(params: type[Params], given: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """What the options are that the caller does not give: the model's own, else those of the chosen inversion.

    Args:
        params: a method's.
        given: the caller's.
        tuned: the model's own defaults, which hold for the inversion that they were found with; those for another
            inversion are under its name in `AFTER`.
    """
    options = options_of(params)
    tuned_with = tuned.get("inversion", options["inversion"].default if "inversion" in options else None)
    chosen = given.get("inversion", tuned_with)
    after = {name: each.metadata["after"].get(str(chosen), each.default) for name, each in options.items()}
    own = tuned if chosen == tuned_with else tuned.get(AFTER, {}).get(str(chosen), {})
    return after | {name: value for name, value in own.items() if name in options}


def choices_of(params: type[Params], name: str) -> tuple[str, ...]:
    """The words that an option takes; () where a method lacks it or it takes any text."""
    each = options_of(params).get(name)
    return () if each is None else each.metadata["choices"]


def check_names(given: Mapping[str, Any], params: type[Params], stages: tuple[Stage, ...], what: str) -> None:
    """Refuse options that a call does not take.

    Raises:
        BadInput: names the options that there are.
    """
    known = {name for name, each in options_of(params).items() if each.metadata["stage"] in stages}
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "no options"
            raise BadInput(f"{what} has no option {name!r}; it takes {names}.")


def allowed(each: Field[Any]) -> str:
    """The values of a field in words, e.g. "between 1 and 1000"."""
    if each.type is str:
        return f"one of {', '.join(each.metadata['choices'])}" if each.metadata["choices"] else "any text"
    return str(each.metadata["range"])


def check_value(each: Field[Any], value: Any) -> None:
    """Refuse a value that a field cannot take.

    Raises:
        BadInput: names the field and its range.
    """
    kind: Any = each.type
    if kind is bool:
        if not isinstance(value, bool):
            raise BadInput(f"{each.name} must be True or False, not {value!r}.")
        return
    if kind is str:
        if not isinstance(value, str) or value not in (each.metadata["choices"] or (value,)):
            raise BadInput(f"{each.name} must be {allowed(each)}, not {value!r}.")
        return
    check_number(each.name, value, kind, each.metadata["range"])
