"""The default evaluator of the edits of a model, with a dual encoder trained on the same images as the model."""

import os

from sfumato.api.loaded import Loaded
from sfumato.errors import BadInput
from sfumato.metrics import Evaluator

Named = str | os.PathLike[str] | None


def evaluator_of(model: Loaded, clip: Named = None, structure: Named = None, perceptual: Named = None) -> Evaluator:
    """Load the evaluator that fits a model.

    Args:
        model: the model whose edits are evaluated.
        clip: a CLIPModel of transformers, folder or hub id; by default the dual encoder in the model's folder, which
            was trained on the same images.
        structure: as for `Evaluator.load`.
        perceptual: as for `Evaluator.load`.

    Returns:
        The evaluator, on the device of the model.

    Raises:
        BadInput: no CLIP is given for a model without a dual encoder, or a network cannot be loaded.
    """
    own = None if model.folder is None else model.folder / "dual_encoder"
    if clip is None and (own is None or not own.is_dir()):
        raise BadInput(
            f"{model.network.name or 'This model'} has no dual encoder that scores edits, and the bundled one "
            "was trained on emoji artwork only: name a CLIP with --clip, e.g. openai/clip-vit-base-patch32 (in Python "
            "evaluator=sfumato.metrics.Evaluator.load(clip=...))."
        )
    return Evaluator.load(own if clip is None else clip, structure, perceptual, model.network.device)
