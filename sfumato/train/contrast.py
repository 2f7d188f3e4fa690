"""Batches in which the same content occurs in several styles, and the supervised contrastive loss over labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput


@dataclass(frozen=True)
class Labels:
    """Integer labels of the content and the style of every image.

    Attributes:
        content: label of the content, [n].
        style: label of the style, [n]; None for images without style labels.
    """

    content: Int64[Tensor, " n"]
    style: Int64[Tensor, " n"] | None

    @classmethod
    def of(cls, data: CaptionedImages, folders: bool = False) -> "Labels":
        """Labels of a dataset.

        Emoji corpus: the emoji without skin tone, and the drawing style. Other folders: every image is its own content;
        with `folders` the first folder of its path is its style.
        """
        if "untoned" in data.table.column_names:
            return cls(numbers(data.table["untoned"].to_pylist()), numbers(data.table["style"].to_pylist()))
        files = data.table["file"].to_pylist()
        styles = numbers([file.rpartition("/")[0].split("/")[0] for file in files]) if folders else None
        return cls(torch.arange(len(files)), styles)


def numbers(names: Sequence[str]) -> Int64[Tensor, " n"]:
    """Convert names to integer labels, numbered from 0 in the order of their first occurrence."""
    known: dict[str, int] = {}
    return torch.tensor([known.setdefault(name, len(known)) for name in names])


def refuse_small_batch(batch: int, least: int) -> None:
    """Raise BadInput for a batch size with which a contrastive loss may have no positives or no negatives.

    Args:
        batch: batch size per process and micro-batch.
        least: smallest batch size with positives and negatives, such as two contents in `loss.views` views each.
    """
    if batch < least:
        raise BadInput(
            f"optim.batch must be at least {least} per process, not {batch}: a contrastive loss needs positives and "
            "negatives in every batch."
        )


class Grid:
    """Draws batches in which each content occurs several times, in different styles if it has enough of them.

    Args:
        labels: labels of the images.
        views: images per content.
    """

    def __init__(self, labels: Labels, views: int) -> None:
        self.views = views
        self.styles = torch.arange(len(labels.content)) if labels.style is None else labels.style
        order = torch.argsort(labels.content, stable=True)
        self.members = order.split(torch.bincount(labels.content).tolist())

    def __call__(self, generator: torch.Generator, size: int) -> Int64[Tensor, " size"]:
        """Indices of `size` images: `views` images of each of size / views contents, which are drawn uniformly."""
        count = -(-size // self.views)
        chosen = torch.randint(len(self.members), (count,), generator=generator).tolist()
        return torch.cat([self._of(self.members[number], generator) for number in chosen])[:size]

    def _of(self, rows: Int64[Tensor, " n"], generator: torch.Generator) -> Int64[Tensor, " views"]:
        """Choose `views` of these images, with different styles and without repetition as far as possible."""
        rows = rows[torch.randperm(len(rows), generator=generator)]
        styles = self.styles[rows]
        nth = (styles[:, None] == styles[None]).tril(-1).sum(1)  # number of earlier images of the same style
        rows = rows[torch.argsort(nth, stable=True)]
        return rows.repeat(-(-self.views // len(rows)))[: self.views]


def supervised_contrastive(
    z: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], temperature: float
) -> Float[Tensor, ""]:
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, arXiv 2004.11362, eq. 2), a mean over the anchors:

        L_i = -1/|P(i)| sum_{p in P(i)} log( exp(z_i z_p / tau) / sum_{a != i} exp(z_i z_a / tau) )

    Args:
        z: features of unit length.
        labels: rows with equal labels are positives for each other.
        temperature: tau.

    Returns:
        The mean over the rows with at least one positive; 0 if there are none.
    """
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    positive = (labels[:, None] == labels[None]) & ~itself
    count = positive.sum(1)
    likelihood = F.log_softmax(logits, dim=1).masked_fill(~positive, 0).sum(1)
    return -(likelihood / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)


def nearest_is_right(z: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Share of the rows whose most similar other row has the same label."""
    similarity = (z @ z.T).fill_diagonal_(-torch.inf)
    return (labels[similarity.argmax(1)] == labels).double().mean()
