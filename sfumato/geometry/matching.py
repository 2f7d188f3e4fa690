"""Global directions: averages of the matched local directions of many samples (arXiv 2302.12469, section 3.3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.step import to_float64
from sfumato.geometry.assignment import best_assignment

ROUNDS = 20
"""Maximum number of matching rounds; the assignment usually converges after three to five."""


@dataclass(frozen=True, eq=False)
class Matched:
    """Result of matching the directions of several samples to common mean directions.

    Attributes:
        mean: mean directions, unit vectors of H, [n,d].
        order: index of the direction of each sample that is matched to each mean, [samples,n].
        overlap: |cos| between each mean and its matched direction of each sample, [samples,n].
        values: singular values of the matched directions, averaged over the samples, [n].
    """

    mean: Float[Tensor, "n d"]
    order: Tensor
    overlap: Float[Tensor, "samples n"]
    values: Float[Tensor, " n"]


def assign(reference: Float[Tensor, "n d"], u: Float[Tensor, "m d"]) -> tuple[Tensor, Float[Tensor, " n"]]:
    """Match every reference vector to a different u_j such that the sum of |cos| is maximal.

    Args:
        reference: unit vectors, [n,d].
        u: unit vectors, [m,d] with m >= n.

    Returns:
        The indices j, [n], and the signed cosines of the matched pairs, [n].
    """
    cosines = to_float64(reference) @ to_float64(u).mT
    order = torch.from_numpy(best_assignment(cosines.abs().cpu().numpy())).to(u.device)
    return order, cosines.gather(1, order[:, None])[:, 0]


def mean_directions(u: Float[Tensor, "samples n d"], values: Float[Tensor, "samples n"]) -> Matched:
    """Match the directions of all samples and average the matched directions.

    The directions are first matched to those of the first sample, then repeatedly to the means until the assignment no
    longer changes:

        mean_k = m_k / |m_k|,    m_k = mean over samples s of sign(<mean_k, u_sj>) u_sj,    j = order[s, k]

    The sign of each mean is chosen so that its largest entry is positive. The means are sorted by singular value.

    Args:
        u: unit vectors of H, the left singular vectors of every sample.
        values: their singular values.
    """
    mean, before = to_float64(u[0]), None
    for _ in range(ROUNDS):
        pairs = [assign(mean, each) for each in u]
        order, cosines = (torch.stack(part) for part in zip(*pairs, strict=True))
        signed = to_float64(u).gather(1, order[..., None].expand(-1, -1, u.shape[2])) * cosines.sign()[..., None]
        mean = torch.nn.functional.normalize(signed.mean(dim=0), dim=1)
        if before is not None and torch.equal(order, before):
            break
        before = order
    overlap = torch.einsum("nd,snd->sn", mean, signed).abs()
    matched_values = values.gather(1, order).mean(dim=0)
    largest = mean.gather(1, mean.abs().argmax(dim=1, keepdim=True))
    mean = mean * torch.where(largest < 0, -1.0, 1.0).to(mean.dtype)
    rank = matched_values.argsort(descending=True)
    return Matched(mean[rank].to(u.dtype), order[:, rank], overlap[:, rank], matched_values[rank])


def principal_directions(h: Float[Tensor, "samples d"], n: int) -> tuple[Tensor, Tensor]:
    """Compute the n principal components of h over samples, [n,d], and their standard deviations, [n].

    Haerkoenen et al., "GANSpace", arXiv 2004.02546. With the SVD h - mean(h) = U S C, the components are the rows of C
    and the standard deviations S / sqrt(samples - 1).
    """
    centred = to_float64(h) - to_float64(h).mean(dim=0)
    _, values, components = torch.linalg.svd(centred, full_matrices=False)
    chosen = components[:n]
    largest = chosen.gather(1, chosen.abs().argmax(dim=1, keepdim=True))
    chosen = chosen * torch.where(largest < 0, -1.0, 1.0).to(chosen.dtype)
    return chosen.to(h.dtype), (values[:n] / max(1, len(h) - 1) ** 0.5).to(h.dtype)
