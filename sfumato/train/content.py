"""Training of the content encoder C, whose features are similar for the same content in different styles.

It is a dual encoder as in `sfumato.train.dual_encoder`, with two losses:

    L = L_text + w_images L_images

L_text is CLIP's symmetric loss between images and captions without style, in which all captions of one content are
positives. L_images is the supervised contrastive loss; its positives are images of the same content in other styles or,
for data without style labels, two views of one image with different colours.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPModel

from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.train.clip_loss import MAX_LOGIT_SCALE, contrastive_loss
from sfumato.train.contrast import Grid, Labels, nearest_is_right, supervised_contrastive
from sfumato.train.dataset import draw_pixels
from sfumato.train.dual_encoder import DualEncoderLoss, DualEncoderTask
from sfumato.train.processes import rows_of_all
from sfumato.train.ranges import ranged
from sfumato.train.recipe import Recipe
from sfumato.train.registry import task
from sfumato.train.task import Batch
from sfumato.train.views import jitter, recoloured

_NAMED = 0.8
"""Probability that a caption is the name of an emoji; otherwise it consists of up to `_KEYWORDS` keywords."""
_KEYWORDS = 3


@dataclass(frozen=True)
class ContentLoss(DualEncoderLoss):
    """Weights of the losses and views of the images: table [loss]; extends `DualEncoderLoss`.

    Attributes:
        images: w_images, weight of the loss between images.
        image_temperature: temperature of the loss between images.
        views: images per content in a batch, in different styles if the content has enough of them.
        colour: amount of the random mixing of colours in [0, 1], see `sfumato.train.views.recoloured`.
    """

    images: float = ranged(1.0, low=0)
    image_temperature: float = ranged(0.1, above=0)
    views: int = ranged(2, low=2)
    colour: float = ranged(0.3, low=0, high=1)


class ContentContrast(nn.Module):
    """CLIPModel with both losses; forward(batch) -> (loss, scalars).

    The batch contains "pixels" [b,3,h,w], "ids" and "mask" [b,n] of the captions, and "labels" [b] of the contents.
    """

    def __init__(self, clip: CLIPModel, loss: ContentLoss) -> None:
        super().__init__()
        self.clip, self.loss = clip, loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum over the batches of all processes, and the accuracies of both losses in the batch."""
        self.clip.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        out = self.clip(input_ids=batch["ids"], attention_mask=batch["mask"], pixel_values=batch["pixels"])
        images, texts = rows_of_all(out.image_embeds), rows_of_all(out.text_embeds)
        ids, labels = rows_of_all(batch["ids"]), rows_of_all(batch["labels"])
        with torch.autocast(images.device.type, enabled=False):
            scale = self.clip.logit_scale.exp()
            text, right = contrastive_loss(images.float(), texts.float(), ids, scale, labels)
            image = supervised_contrastive(images.float(), labels, self.loss.image_temperature)
        scalars = {
            "text": text.detach(),
            "images": image.detach(),
            "text_right": right,
            "image_right": nearest_is_right(images.detach().float(), labels),
            "scale": scale.detach(),
        }
        return text + self.loss.images * image, scalars


@task("content")
class ContentTask(DualEncoderTask):
    """Train a content encoder; the arguments, errors and the exported folder are those of `DualEncoderTask`."""

    LOSS: ClassVar[type[DualEncoderLoss]] = ContentLoss

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> None:
        if recipe.data.scenes or recipe.data.crop:
            raise BadInput("a content encoder is trained on single images: leave data.scenes and data.crop out.")
        super().__init__(recipe, folder, device)
        labels = Labels.of(self.images)
        self.contents, self.grid = labels.content, Grid(labels, self.own.views)

    @property
    def own(self) -> ContentLoss:
        """The table [loss]."""
        assert isinstance(self.loss, ContentLoss)
        return self.loss

    @property
    def images(self) -> CaptionedImages:
        """The training images."""
        assert isinstance(self.data, CaptionedImages)
        return self.data

    def _least_batch(self) -> int:
        """Batch size of two contents, each in all its views."""
        return 2 * self.own.views

    def _contrast(self) -> nn.Module:
        return ContentContrast(self.clip, self.own)

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Draw `size` augmented images in [-1,1], their captions without style, and the labels of their contents."""
        rows = self.grid(generator, size)
        pixels = jitter(draw_pixels(self.data, rows, self.device), generator, self.loss.shift, self.loss.zoom)
        pixels = recoloured(pixels, generator, self.own.colour)
        varied = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        ids, mask = self.tokens([content_caption(self.images, row, varied) for row in rows.tolist()])
        return {"pixels": pixels, "ids": ids, "mask": mask, "labels": self.contents[rows]}


def content_caption(data: CaptionedImages, row: int, generator: np.random.Generator | None = None) -> str:
    """Caption of an image without its style.

    Args:
        data: the images; the complete caption is returned for images of a user's folder, which have no style column.
        row: index of the image.
        generator: if given, keywords of an emoji replace its name at random.
    """
    if "name" not in data.table.column_names:
        return data.captions[row]
    words = data.alternatives[row]
    if generator is None or generator.random() < _NAMED or not words:
        return str(data.table["name"][row].as_py())
    return " ".join(generator.choice(words, size=min(_KEYWORDS, len(words)), replace=False))
