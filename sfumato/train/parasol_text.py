"""Initial weights of PARASOL's tokens from the text embeddings of captions.

In the paper, the content descriptor is an embedding of the CLIP whose text encoder conditions the U-Net, so the U-Net
can use it at once, and the style is learnt by training the complete U-Net. Here C is another network, so the tokens
start from text embeddings that the U-Net was trained with (`sfumato.style.tokens`):

    c_y          the mean embedding of captions without style, weighted by their similarity to the image in C;
    m_s + c_y    close to the embedding of the caption with style, by a regression that trains both.

Text embeddings of "NAME, STYLE" are close to such a sum, at every position of the prompt. The weighted mean alone
already transfers to images that the regression has not seen; an MLP from c_y to the embeddings does so much less.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models.diffusion_model import DiffusionModel
from sfumato.style.describers import Describers
from sfumato.style.tokens import ModalityTokens

_SCALES = (5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0)
"""Factors of the cosine of an image and a caption in the softmax, of which the best one is used."""
_STEPS, _BATCH, _RATE, _AT_ONCE, _MEASURED = 1000, 256, 1e-3, 256, 1024


def text_embeddings(model: DiffusionModel, captions: Sequence[str]) -> Float[Tensor, "n tokens width"]:
    """Text embeddings of captions, float32."""
    parts = []
    with torch.no_grad():
        for first in range(0, len(captions), _AT_ONCE):
            tokens = model.condition(captions[first : first + _AT_ONCE]).tokens
            assert tokens is not None
            parts.append(tokens.float())
    return torch.cat(parts)


@torch.no_grad()
def start_from_text(
    tokens: ModalityTokens,
    model: DiffusionModel,
    describers: Describers,
    style: Float[Tensor, "n a"],
    content: Float[Tensor, "n c"],
    captions: Sequence[tuple[str, str]],
    seed: int,
) -> float:
    """Set the weights of `tokens`; the null tokens become the embeddings of the empty prompt (content) and 0 (style).

    Args:
        tokens: the networks, with as many tokens as the prompts of the model, and `captions` > 0.
        model: its text encoder computes the embeddings.
        describers: the encoders that computed the descriptors.
        style: style descriptors.
        content: content descriptors.
        captions: caption of each pair of descriptors, without and with style.
        seed: seed of the choice of captions and of the batches.

    Returns:
        The squared error of the tokens of up to 1,024 random pairs, relative to the variance of the embeddings with
        style.
    """
    generator = torch.Generator().manual_seed(seed)
    plain, styled = ([pair[k] for pair in captions] for k in (0, 1))
    tokens.null_content.copy_(text_embeddings(model, [""])[0])
    tokens.null_style.zero_()
    unique = list(dict.fromkeys([*plain, *styled]))
    number = {caption: row for row, caption in enumerate(unique)}
    wanted = torch.tensor([[number[caption] for caption in texts] for texts in (plain, styled)])
    embedded = text_embeddings(model, unique).to(tokens.null_content)
    style, content = style.to(embedded), content.to(embedded)
    names = list(dict.fromkeys(plain))
    names = [names[n] for n in torch.randperm(len(names), generator=generator)[: tokens.captions].tolist()]
    some = torch.randperm(len(content), generator=generator)[:_MEASURED]
    _set_content(
        tokens, content[some], embedded[wanted[0, some]], describers.content.text_features(names),
        embedded[[number[name] for name in names]],
    )  # fmt: skip
    _fit(tokens, style, content, embedded, wanted, generator)
    true = embedded[wanted[1, some]]
    found = tokens.of(style[some], content[some], len(some))
    return float((found - true).square().sum() / (true - true.mean(0)).square().sum())


def _set_content(tokens: ModalityTokens, content: Tensor, wanted: Tensor, features: Tensor, embedded: Tensor) -> None:
    """Set K and e_i; the scale of K is the one with the smallest error on these content descriptors."""
    keys, _, values = tokens.content
    assert isinstance(keys, nn.Linear)
    assert isinstance(values, nn.Linear)
    features, embedded = features.to(keys.weight), embedded.to(keys.weight)
    cosine, flat = content @ features.T, embedded.flatten(1)

    def error(scale: float) -> float:
        return float(F.mse_loss((scale * cosine).softmax(-1) @ flat, wanted.flatten(1)))

    keys.weight.copy_(min(_SCALES, key=error) * features / content.shape[1] ** 0.5)
    values.weight.copy_(flat.T)


def _fit(
    tokens: ModalityTokens,
    style: Tensor,
    content: Tensor,
    embedded: Tensor,
    wanted: Tensor,
    generator: torch.Generator,
) -> None:
    """Regression to `embedded`, with AdamW and a learning rate that decays to 0.

    `wanted` [2, n] contains the row of the caption of each pair without (0) and with style (1).
    """
    optimiser = torch.optim.AdamW([*tokens.style.parameters(), *tokens.content.parameters()], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    with torch.enable_grad():
        for _ in range(_STEPS):
            rows = torch.randint(len(style), (_BATCH,), generator=generator)
            keep = torch.rand(_BATCH, generator=generator) < 0.5
            found = tokens(style[rows], content[rows], keep.to(style.device), torch.ones_like(keep).to(style.device))
            loss = F.mse_loss(found, embedded[wanted[keep.long(), rows]])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
