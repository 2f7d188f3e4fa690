"""Remarks before work about inputs that are read in another way than may be meant."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sfumato.cli.outputs import remark

if TYPE_CHECKING:
    from sfumato.api.loaded import Loaded


def hints(model: "Loaded", name: str, size: tuple[int, int] | None, prompts: Sequence[str]) -> list[str]:
    """Remarks on the size of an image and on the prompts, which are also printed on stderr.

    Args:
        model: the model.
        name: what the remark calls the image.
        size: (width, height) in pixels; None for the model's own.
        prompts: all prompts of the command.
    """
    from sfumato.api.notes import prompt_note, size_note

    found = [] if size is None else [size_note(model.network, name, size)]
    found += [prompt_note(prompt) for prompt in prompts if model.network.takes_text]
    notes = [note for note in dict.fromkeys(found) if note]
    for note in notes:
        remark(note)
    return notes
