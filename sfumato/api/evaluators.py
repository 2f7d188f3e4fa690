"""The default evaluator of the edits of a model, with a dual encoder trained on the same images as the model."""

import os

from sfumato.api.dual_encoder_folder import dual_encoder_folder
from sfumato.api.loaded import Loaded
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
    chosen = dual_encoder_folder(model.folder, model.network.name) if clip is None else clip
    return Evaluator.load(chosen, structure, perceptual, model.network.device)
