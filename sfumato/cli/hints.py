"""Warnings about image sizes and prompts that may not be interpreted as intended, printed before the work begins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sfumato.cli.outputs import remark

if TYPE_CHECKING:
    from sfumato.api.loaded import Loaded
    from sfumato.api.resolution import Resolution


def hints(
    model: "Loaded",
    name: str,
    size: tuple[int, int] | None,
    prompts: Sequence[str],
    resolution: "Resolution" = "full",
    remedy: str = "",
) -> list[str]:
    """Remarks on the size of an image and on the prompts; they are returned and printed on stderr.

    Args:
        model: the model.
        name: name of the image in remarks.
        size: (width, height) in pixels; None for the model's own.
        prompts: all prompts of the command.
        resolution: as for `Model.invert`.
        remedy: how to use the model's size in a command without --resolution.
    """
    from sfumato.api.notes import NATIVE, prompt_note, size_note
    from sfumato.api.resolution import edited_size

    edited = None if size is None else edited_size(model.network, resolution, size)
    found = [] if size is None else [size_note(model.network, name, size, edited, remedy or NATIVE)]
    for text_encoder in model.network.text_encoders[:1]:
        read = text_encoder.weighted
        found += [prompt_note(text_encoder.plain(prompt), weighted=read) for prompt in prompts]
    notes = [note for note in dict.fromkeys(found) if note]
    for note in notes:
        remark(note)
    return notes
