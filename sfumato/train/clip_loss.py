"""The contrastive loss of a dual encoder over the images and captions of a batch (Radford et al. 2021)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from sfumato.train.processes import rows_of_all
from sfumato.train.task import Batch

#: Logits are scaled by at most 100 for stability (Radford et al. 2021, section 2.5).
MAX_LOGIT_SCALE = math.log(100)


class Contrast(nn.Module):
    """CLIPModel with the symmetric contrastive loss; forward(batch) -> (loss, scalars)."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrastive loss over the batches of all processes; see `contrastive_loss`."""
        self.clip.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        out = self.clip(input_ids=batch["ids"], attention_mask=batch["mask"], pixel_values=batch["pixels"])
        images, texts, ids = rows_of_all(out.image_embeds), rows_of_all(out.text_embeds), rows_of_all(batch["ids"])
        # bf16 has 8 significant bits, too few for logits of up to 100: similar captions would get equal logits.
        with torch.autocast(images.device.type, enabled=False):
            loss, right = contrastive_loss(images.float(), texts.float(), ids, self.clip.logit_scale.exp())
        return loss, {"in_batch_precision": right, "scale": self.clip.logit_scale.detach().exp()}


def contrastive_loss(
    images: Tensor, texts: Tensor, ids: Tensor, scale: Tensor, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Symmetric cross-entropy over the similarity matrix (Radford et al. 2021, figure 3).

    Images with equal captions or labels are positives for each other: the target is uniform over them.

    Args:
        images: image embeddings of unit length, [n,d].
        texts: embeddings of their captions, of unit length, [n,d].
        ids: token ids of the captions, [n,context].
        scale: factor on the logits, 1 / temperature.
        labels: integer labels of the contents of the images, [n]; None to use equal captions only.

    Returns:
        The loss, and the fraction of images whose most similar caption is a positive; in the dtype of the embeddings.
    """
    logits = scale * images @ texts.T
    positive = (ids[:, None] == ids[None]).all(-1)
    if labels is not None:
        positive |= labels[:, None] == labels[None]
    same = positive.to(logits.dtype)
    target = same / same.sum(1, keepdim=True)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    top = logits.argmax(1)
    return loss, same[torch.arange(len(top), device=top.device), top].mean()
