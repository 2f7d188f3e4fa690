"""Initial weights of PARASOL's content tokens: regression from content descriptors to text embeddings.

In the paper, the content descriptor is an embedding of the CLIP whose text encoder conditions the U-Net, so the U-Net
can use it at once. Here C is another network. The regression maps its descriptors to the text embeddings of captions
without style, which the U-Net was trained with.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.models.diffusion_model import DiffusionModel
from sfumato.style.tokens import ModalityTokens

_BATCH, _RATE, _AT_ONCE = 256, 1e-3, 256


def text_embeddings(model: DiffusionModel, captions: Sequence[str]) -> Float[Tensor, "n tokens width"]:
    """Text embeddings of captions, float32."""
    parts = []
    with torch.no_grad():
        for first in range(0, len(captions), _AT_ONCE):
            tokens = model.condition(captions[first : first + _AT_ONCE]).tokens
            assert tokens is not None
            parts.append(tokens.float())
    return torch.cat(parts)


def fit_to_text(
    tokens: ModalityTokens,
    model: DiffusionModel,
    content: Float[Tensor, "n c"],
    captions: Sequence[str],
    steps: int,
    seed: int,
) -> float:
    """Fit the content network of `tokens` to text embeddings; its null tokens become those of the empty prompt.

    Args:
        tokens: the networks, as many content tokens as the prompts of the model have.
        model: its text encoder computes the embeddings.
        content: content descriptors.
        captions: caption of the content of each descriptor.
        steps: steps of AdamW with 256 random descriptors each; the learning rate decays to 0.
        seed: seed of the choice of descriptors.

    Returns:
        The squared error over all descriptors, relative to the variance of the embeddings.
    """
    unique = list(dict.fromkeys(captions))
    embedded = text_embeddings(model, unique).to(tokens.null_content)
    with torch.no_grad():
        tokens.null_content.copy_(text_embeddings(model, [""])[0])
    numbers = {caption: number for number, caption in enumerate(unique)}
    wanted = torch.tensor([numbers[caption] for caption in captions])
    content, network = content.to(embedded), tokens.content
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(content), (_BATCH,), generator=generator)
            loss = F.mse_loss(tokens.of_content(content[rows]), embedded[wanted[rows]])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        chunks = torch.arange(len(content)).split(_AT_ONCE)
        errors = [(tokens.of_content(content[c]) - embedded[wanted[c]]).square().sum() for c in chunks]
        spread = [(embedded[wanted[c]] - embedded[wanted].mean(0)).square().sum() for c in chunks]
    return float(sum(errors) / sum(spread))
