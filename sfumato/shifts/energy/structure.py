"""Structure losses: keys of a vision transformer, compared between positions (arXiv 2209.15264, section 3.2).

    L_cont = mean_i -log( exp(cos(k_i, k'_i) / tau) / sum_j exp(cos(k_i, k'_j) / tau) )
    L_sim  = mean_ij (cos(k_i, k_j) - cos(k'_i, k'_j))^2

k are the keys of P_t, k' those of the source image; i and j are tokens of the last layer. L_cont is the patchwise
contrastive loss of Park et al. (arXiv 2007.15651), with all other positions of the source as negatives. L_sim is the
structure loss of Tumanyan et al. (arXiv 2201.00424, eq. 5).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.shifts.energy.prediction import DecodedPrediction, Loss

TEMPERATURE = 0.07


@dataclass(frozen=True)
class KeyContrast:
    """L_cont: contrastive loss with the same position of the source as positive, all other positions as negatives."""

    temperature: float = TEMPERATURE

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run."""
        reference = source.features.keys
        return lambda image: key_contrast(image.features.keys, reference, self.temperature)


@dataclass(frozen=True)
class KeySelfSimilarity:
    """L_sim: mean squared difference between the self-similarity matrices of the prediction and the source."""

    def against(self, source: DecodedPrediction) -> Loss:
        """Return the loss for one run."""
        reference = self_similarity(source.features.keys)
        return lambda image: (self_similarity(image.features.keys) - reference).square().mean(dim=(1, 2))


def key_contrast(
    keys: Float[Tensor, "b t d"], reference: Float[Tensor, "b t d"], temperature: float = TEMPERATURE
) -> Float[Tensor, " b"]:
    """Compute L_cont of every image.

    Args:
        keys: keys of the prediction.
        reference: keys of the source image.
        temperature: tau, above 0.
    """
    logits = F.normalize(keys, dim=-1) @ F.normalize(reference, dim=-1).mT / temperature
    same = torch.arange(keys.shape[1], device=keys.device).expand(len(keys), -1)
    return F.cross_entropy(logits.mT, same, reduction="none").mean(dim=1)


def self_similarity(keys: Float[Tensor, "b t d"]) -> Float[Tensor, "b t t"]:
    """Compute cos(k_i, k_j) for all pairs of tokens."""
    k = F.normalize(keys, dim=-1)
    return k @ k.mT
