"""Checks of prompts that need no tokenizer; they do not import torch."""

from collections.abc import Callable, Sequence
from typing import Any

from sfumato.errors import BadInput
from sfumato.options.params import Params


def check_texts(
    prompts: Sequence[Any], name: str, *, empty: bool, takes_text: bool | None = True, model: str = ""
) -> None:
    """Check that prompts are texts, and that they are given if and only if the model has text input.

    Args:
        prompts: the prompts.
        name: name of a prompt in error messages, e.g. "target prompt".
        empty: whether an empty prompt is allowed.
        takes_text: whether the model has text input; None if that is not known yet.
        model: name of the model in error messages.

    Raises:
        BadInput: a prompt is not a string, is empty, or is given for a model without text input.
    """
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise BadInput(f"The {name} must be text, not {prompt!r}.")
        if takes_text and not empty and not prompt.strip():
            raise BadInput(f"The {name} is empty: describe the image in a few words.")
        if takes_text is False and prompt.strip():
            raise BadInput(f"{model or 'This model'} has no text input: leave the {name} empty.")


def uses_negative(methods: Sequence[Params], guidance_scale: float) -> bool:
    """Whether a negative prompt has an effect at this guidance scale in an edit by these methods together."""
    if any(params.replaces_guidance for params in methods):
        return False
    return guidance_scale != 1 or any(params.uses_negative(guidance_scale) for params in methods)


def check_used(negative_prompt: str, used: Callable[[float], bool], guidance_scales: Sequence[float]) -> None:
    """Check that a negative prompt has an effect for at least one image.

    Args:
        negative_prompt: the negative prompt; may be empty.
        used: returns whether a negative prompt has an effect at a guidance scale.
        guidance_scales: guidance scale of every image.

    Raises:
        BadInput: the negative prompt is not empty and has no effect.
    """
    if negative_prompt.strip() and not any(map(used, guidance_scales)):
        raise BadInput(
            "A negative prompt has no effect at guidance scale 1, and at any scale with a method that replaces the "
            "guidance, such as parasol: give another guidance scale, or leave the negative prompt out."
        )
