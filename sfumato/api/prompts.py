"""Checks of prompts that need no tokenizer; they do not import torch."""

from collections.abc import Sequence
from typing import Any

from sfumato.errors import BadInput


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
