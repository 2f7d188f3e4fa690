"""Initial weights of PARASOL's tokens from a file, to continue a training or after further training of the U-Net."""

from typing import Any

from sfumato.errors import BadInput
from sfumato.style.describers import Describers
from sfumato.style.tokens import ModalityTokens, Parasol


def take_weights(tokens: ModalityTokens, start: str, describers: Describers) -> None:
    """Load the weights of a PARASOL file into `tokens`.

    Args:
        tokens: the networks, built from the recipe.
        start: PARASOL file. The model that it was trained for is not compared.
        describers: the encoders of the recipe.

    Raises:
        BadInput: the file cannot be read, or belongs to other encoders or to networks of other sizes.
    """
    saved = Parasol.load(start)
    content, style = describers.content.fingerprint, describers.style.fingerprint
    recipe = _settings(tokens, content, style)
    file = _settings(saved.tokens, saved.content_encoder, saved.style_encoder)
    different = [f"{name} {file[name]}, here {recipe[name]}" for name in recipe if file[name] != recipe[name]]
    if different:
        raise BadInput(
            f"network.start = '{start}' has other settings ({'; '.join(different)}): give [network] the same, or leave "
            "network.start out."
        )
    tokens.load_state_dict(saved.tokens.state_dict())


def _settings(tokens: ModalityTokens, content: str, style: str) -> dict[str, Any]:
    """What the weights depend on, by the names of the recipe; `content` and `style` are fingerprints."""
    sizes = tokens.sizes
    return {
        "content": content[:12],
        "style": style[:12],
        "hidden": sizes["hidden"],
        "tokens": sizes["content_tokens"],
        "captions": tokens.captions,
        "width": sizes["width"],
        "key_value layers": tokens.changes.layers,
    }
