"""The dual encoder in `network.start` of a recipe, and the settings that it determines."""

from pathlib import Path

from transformers import CLIPModel

from sfumato.errors import BadInput
from sfumato.metrics.frozen import load_frozen
from sfumato.train.recipe import Recipe


def load_start(recipe: Recipe, folder: Path) -> CLIPModel:
    """Load the dual encoder that a run starts from; its weights require gradients.

    Args:
        recipe: settings of the run.
        folder: folder of the exported dual encoder.

    Raises:
        BadInput: the folder cannot be read, images of `data.size` do not fit the encoder, or the recipe contains
            settings of the architecture or a temperature that would have no effect.
    """
    clip = load_frozen(CLIPModel, folder).requires_grad_(True).train()
    image, text = clip.config.vision_config, clip.config.text_config
    if recipe.data.size != image.image_size:
        raise BadInput(f"data.size must be {image.image_size}, the image size of {folder}, not {recipe.data.size}.")
    own = {
        "width": text.hidden_size, "image_layers": image.num_hidden_layers, "text_layers": text.num_hidden_layers,
        "patch": image.patch_size, "projection": clip.config.projection_dim, "context": text.max_position_embeddings,
        "vocabulary": text.vocab_size,
    }  # fmt: skip
    for name, value in own.items():
        given = recipe.network.get(name, value)
        if given < value or (given > value and name != "vocabulary"):  # the vocabulary of a recipe is an upper limit
            raise BadInput(
                f"network.{name} = {given} is not that of network.start = '{folder}', which has {value}: leave it out."
            )
    if "temperature" in recipe.loss:
        raise BadInput(
            f"loss.temperature has no effect with network.start = '{folder}', which has its own temperature "
            f"({float((-clip.logit_scale.detach()).exp()):.3g}): leave it out."
        )
    return clip
