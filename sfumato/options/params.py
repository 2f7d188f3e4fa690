"""Parameters of a method: a frozen dataclass whose fields have a help text and a range of values.

The fields are defined by `sfumato.options.option`. The flags of the command line, the argument checks and the contract
tests are derived from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sfumato.core.prompt import Prompt
from sfumato.errors import BadInput
from sfumato.options.option import Stage, check_value
from sfumato.options.prompt_words import NamedWord
from sfumato.regular_files import content_hash

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.condition import Condition
    from sfumato.core.guidance import Guided
    from sfumato.models.diffusion_model import DiffusionModel

PromptPair: TypeAlias = tuple[Prompt, Prompt]
"""(source prompt, target prompt), tokenised."""
SHARED = ("skip", "guidance_scale")
"""Options of the complete run, which have the same value for all of its methods."""


@dataclass(frozen=True)
class Params:
    """Base class of the parameters of all methods.

    Attributes:
        needs_text: whether the method requires a model with text input.
        needs: options of which at least one must be given for the method to have an effect; () if it always has one.
    """

    needs_text: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def lacks(self) -> tuple[str, ...]:
        """The options of `needs` if none of them is given, so that the method has no effect."""
        values = [getattr(self, name) for name in self.needs]
        given = any(value.strip() if isinstance(value, str) else value for value in values)
        return () if given else self.needs

    @property
    def inverts_with(self) -> tuple[str, ...]:
        """Options of the stage "edit" that `inverted_under` reads too, so that an edit cannot change them."""
        return ()

    @property
    def keeps_prompt(self) -> bool:
        """Whether an edit without a target prompt uses the source prompt."""
        return False

    @property
    def reads_target(self) -> bool:
        """Whether the method reads the target prompt also in runs under the source prompt."""
        return False

    def check(self) -> None:
        """Check the types and ranges of all values.

        Raises:
            BadInput: a value has the wrong type or is out of range; the message names the parameter and its range.
        """
        for each in fields(self):
            check_value(each, getattr(self, each.name))
        steps, skip = getattr(self, "steps", None), getattr(self, "skip", None)
        if steps is not None and skip is not None and skip >= steps:
            raise BadInput(f"skip must be between 0 and {steps - 1}, one less than the {steps} steps, not {skip}.")

    @cached_property
    def checked(self) -> bool:
        """True, after `check`: it is made once for each object, whose values cannot change. Raises BadInput."""
        self.check()
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Return the options only: a pickle or copy does not contain what was read from files or checked."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def named_words(self) -> Sequence[NamedWord]:
        """The words that the prompts must contain, for a check before a model is loaded."""
        return ()

    @property
    def files(self) -> Sequence[str]:
        """Paths of local files and folders in the options. Recipes contain their names and hashes instead."""
        return ()

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the files and folders by path (`content_hash`), computed once. Raises BadInput."""
        return {path: content_hash(Path(path)) for path in self.files}

    def check_headers(self) -> None:
        """Check the files that options name as far as possible without importing torch. Raises BadInput."""

    def check_files(self) -> None:
        """Read and check the files that are given as options. Raises BadInput for a file that cannot be used.

        The content must be kept in this object, as the files may change later.
        """

    def read_files(self) -> None:
        """Read and check the files and compute their hashes, for the recipe. Raises BadInput."""
        self.check_files()
        _ = self.hashes

    def check_inversion(self, network: "DiffusionModel") -> None:
        """Check that `inverted_under` supports the model, without evaluating it. Raises BadInput."""

    def inverted_under(
        self, network: "DiffusionModel", guided: "Guided", condition: "Condition", x0: "Tensor"
    ) -> "tuple[Guided, Condition]":
        """Return guidance and condition of the inversion and the reconstruction; by default those of the source prompt.

        Args:
            network: the model.
            guided: the guidance of the source prompt.
            condition: the source prompt, one row per image.
            x0: the latents of the images, one row per image.
        """
        return guided, condition

    @property
    def replaces_guidance(self) -> bool:
        """Whether the edit has another guidance than that by the prompts, so that their scales have no effect."""
        return False

    @property
    def needs_reference(self) -> bool:
        """Whether the generation of an image compares it with the image of the same seed without any method."""
        return False

    def uses_negative(self, guidance_scale: float) -> bool:
        """Return whether a negative prompt has an effect at this guidance scale; at 1 it cancels."""
        return guidance_scale != 1

    def path(self, steps: int) -> list[int]:
        """Return the noise levels in the order in which the edit visits them (`sfumato.core.path`).

        Args:
            steps: number of steps of the edit, without skipped steps.

        Returns:
            The path, or [] if every step is run once.
        """
        return []

    def finish(self, edited: "Tensor", source: "Tensor | None", inside: "Tensor | None" = None) -> "Tensor":
        """Post-process the decoded images, before a mask restores the source outside of it.

        Args:
            edited: the decoded images, [b,3,h,w] in about [-1,1].
            source: the source images, the same shape, in [-1,1]; None for generated images.
            inside: mask weights, [b,1,h,w] in [0,1], with which the result replaces the source; None for no mask.

        Returns:
            The processed images, in the shape and range of `edited`.
        """
        return edited

    def notes(self, prompts: Sequence[tuple[str, str]]) -> list[str]:
        """Return notes for the report on given prompts or options that had no effect.

        Args:
            prompts: source and target prompt of every image; the target prompt is "" if another method reads it in a
                run under the source prompt (`reads_target`).
        """
        return []

    def check_run(self, network: "DiffusionModel", size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check parameters whose validity depends on the model, the images or their prompts.

        Args:
            network: the model; it is not evaluated.
            size: height and width of the latents.
            prompts: source and target prompt of every image; () for a model without text input, or one whose text
                encoders tokenise the prompts differently, so that positions of words are not defined.

        Raises:
            BadInput: a parameter does not fit; the message names it and the allowed values.
        """


def check_weights(params: Params, name: str, weights: Sequence[str]) -> None:
    """Check that one of the weights of an option's terms is above 0, as the option has no effect otherwise.

    Args:
        params: the parameters.
        name: an option; if it is empty, its weights are not needed.
        weights: the options of the weights.

    Raises:
        BadInput: the option is given, and all weights are 0.
    """
    if getattr(params, name).strip() and not any(getattr(params, weight) for weight in weights):
        raise BadInput(f"{name} has no effect with weights of 0: set {' or '.join(weights)} above 0.")


def options_of(params: type[Params], stage: Stage | None = None) -> dict[str, Field[Any]]:
    """Return the fields of a method's parameters by name: all, or those of one stage."""
    return {each.name: each for each in fields(params) if stage in (None, each.metadata["stage"])}


def choices_of(params: type[Params], name: str) -> tuple[str, ...]:
    """Return the allowed values of a string option; () if the method lacks the option or any string is allowed."""
    each = options_of(params).get(name)
    return () if each is None else each.metadata["choices"]


def check_names(given: Mapping[str, Any], params: type[Params], stages: tuple[Stage, ...], what: str) -> None:
    """Check that a call accepts all given options.

    Args:
        given: options of the caller.
        params: parameter class of a method.
        stages: stages whose options the call accepts.
        what: name of the call in error messages.

    Raises:
        BadInput: an option is unknown; the message lists the accepted options.
    """
    known = {name for name, each in options_of(params).items() if each.metadata["stage"] in stages}
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "no options"
            raise BadInput(f"{what} has no option {name!r}; it takes {names}.")
