"""The folder of the dual encoder that scores the edits of a model. This module does not import torch."""

from pathlib import Path

from sfumato.errors import BadInput


def dual_encoder_folder(folder: Path | None, name: str) -> Path:
    """The folder of the dual encoder in a model's folder, which was trained on the same images.

    Args:
        folder: folder of the model; None if it was not loaded from a folder.
        name: name of the model for the message; may be empty.

    Raises:
        BadInput: the model has none; the message names --clip.
    """
    own = None if folder is None else folder / "dual_encoder"
    if own is None or not own.is_dir():
        raise BadInput(
            f"{name or 'This model'} has no dual encoder that scores edits, and the bundled one "
            "was trained on emoji artwork only: name a CLIP with --clip, e.g. openai/clip-vit-base-patch32 (in Python "
            "evaluator=sfumato.metrics.Evaluator.load(clip=...))."
        )
    return own
