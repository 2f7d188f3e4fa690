"""Training of the style encoder A, whose descriptors are similar for images of one style with different contents.

The loss is contrastive. Positives are images with equal style labels (of the corpus, or of one subfolder per style),
and every batch contains the same content in several styles; without labels, positives are two crops of one image.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.style.encoder import StyleEncoder, load_style_encoder
from sfumato.style.files import FILE
from sfumato.style.network import GROUPS, StyleNetwork
from sfumato.style.words import StyleWords
from sfumato.train.binding import settings_of
from sfumato.train.contrast import Grid, Labels, nearest_is_right, refuse_small_batch, supervised_contrastive
from sfumato.train.dataset import draw_pixels, open_images
from sfumato.train.processes import rows_of_all
from sfumato.train.ranges import ranged
from sfumato.train.recipe import Recipe, fill
from sfumato.train.registry import task
from sfumato.train.task import Batch, Phase
from sfumato.train.views import crops, jitter

LABELS = ("style", "folders", "crops")
_DESCRIBED = 4096
"""Number of training images from which the style words are learnt."""
_STANDARDISED = 256
"""Number of training images over which the feature statistics are standardised."""


@dataclass(frozen=True)
class StyleRecipe:
    """Architecture of the style encoder: table [network].

    Attributes:
        channels: channels of the stages, multiples of 8; every stage after the first halves the resolution.
        dimension: dimension of the descriptor.
        start: style encoder of the same architecture with the initial weights; "" for random weights.
        least: a word is learnt if at least this many captions contain it.
    """

    channels: tuple[int, ...] = ranged((24, 48, 96, 160, 224), low=GROUPS, high=4096)
    dimension: int = ranged(128, low=2, high=4096)
    start: str = ""
    least: int = ranged(20, low=1)


@dataclass(frozen=True)
class StyleLoss:
    """Positives, temperature and augmentation: table [loss].

    Attributes:
        labels: source of the style labels: "style" for the column of the corpus, "folders" for the first subfolder of
            each image's path, "crops" for no labels, where the positives are two crops of one image.
        temperature: tau of the contrastive loss.
        views: images in a batch per content ("style", in different styles if possible) or per subfolder ("folders",
            different images if possible).
        least_crop: for "crops": smallest side of a crop, as a fraction of the image's side.
        shift: except for "crops": largest translation of an image, as a fraction of its side.
        zoom: except for "crops": largest relative change of an image's size.
    """

    labels: str = "style"
    temperature: float = ranged(0.1, above=0)
    views: int = ranged(4, low=1)
    least_crop: float = ranged(0.4, above=0, high=1)
    shift: float = ranged(0.08, low=0, high=1)
    zoom: float = ranged(0.12, low=0, below=1)


class StyleContrast(nn.Module):
    """The network with the supervised contrastive loss; forward(batch) -> (loss, scalars).

    The batch contains "pixels" [b,3,h,w] in [-1,1] and "labels" [b].
    """

    def __init__(self, network: StyleNetwork, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss over the batches of all processes; "right" is the share whose nearest neighbour is a positive."""
        z = rows_of_all(F.normalize(self.network(batch["pixels"]).float(), dim=-1))
        labels = rows_of_all(batch["labels"])
        with torch.autocast(z.device.type, enabled=False):
            loss = supervised_contrastive(z, labels, self.temperature)
        return loss, {"right": nearest_is_right(z.detach(), labels)}


@task("style")
class StyleTask:
    """Train a style encoder.

    Args:
        recipe: settings of the run.
        folder: folder of the run.
        device: device on which batches are prepared.

    Raises:
        BadInput: a setting is invalid, the data cannot be used, or it has fewer than two styles.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.shape = fill(StyleRecipe, recipe.network, "network")
        self.loss = fill(StyleLoss, recipe.loss, "loss")
        _check(recipe, self.shape, self.loss)
        self.size = recipe.data.size
        self.data = open_images(recipe)
        self.image_count = len(self.data)
        labels = Labels.of(self.data, folders=self.loss.labels == "folders")
        self.styles = self._styles(labels, recipe.data.folder)
        groups = Labels(self.styles, None) if self.loss.labels == "folders" else labels
        self.grid = Grid(groups, self.loss.views)
        self.bound_to = settings_of(self.loss, "loss", "labels") | {"data.size": str(self.size)}
        self.network = self._build(recipe.seed)
        self.phases = (Phase("style", StyleContrast(self.network, self.loss.temperature), compiled=(self.network,)),)

    def _styles(self, labels: Labels, folder: str) -> Tensor:
        """Label of every image. Raises BadInput without at least two styles, or two images for crops."""
        if self.loss.labels == "crops":
            if self.image_count < 2:
                raise BadInput(f"{folder} has one image in the split 'train': crops need at least two, so add images.")
            return torch.arange(self.image_count)
        if labels.style is None or len(labels.style.unique()) < 2:
            raise BadInput(
                f"{folder} does not have two styles: set loss.labels to 'folders' for one subfolder per style, or to "
                "'crops' for images without style labels."
            )
        return labels.style

    def _build(self, seed: int) -> StyleNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = StyleNetwork(self.shape.channels, self.shape.dimension)
        if not self.shape.start:
            network.standardise(draw_pixels(self.data, self._some(_STANDARDISED), "cpu"))
            return network
        start = load_style_encoder(self.shape.start).network
        if (start.channels, start.dimension) != (network.channels, network.dimension):
            raise BadInput(
                f"network.start = '{self.shape.start}' has the channels {list(start.channels)} and the dimension "
                f"{start.dimension}: give [network] the same."
            )
        return start.requires_grad_(True).train()

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Draw `size` augmented images in [-1,1] and their labels."""
        if self.loss.labels == "crops":
            rows = torch.randint(self.image_count, (-(-size // 2),), generator=generator).repeat(2)[:size]
            pixels = crops(draw_pixels(self.data, rows, self.device), generator, self.loss.least_crop)
        else:
            rows = self.grid(generator, size)
            pixels = jitter(draw_pixels(self.data, rows, self.device), generator, self.loss.shift, self.loss.zoom)
        return {"pixels": pixels, "labels": self.styles[rows]}

    def sample(self, folder: Path, step: int) -> None:
        """Do nothing: an encoder generates no images. Its accuracy in the batch is in the log."""

    @torch.no_grad()
    def encoder(self) -> StyleEncoder:
        """The encoder with the current weights, and the style words from the captions of up to 4096 training images."""
        device = next(self.network.parameters()).device
        found = [
            F.normalize(self.network(draw_pixels(self.data, part, device)).float(), dim=-1).cpu()
            for part in self._some(_DESCRIBED).split(64)
        ]
        captions = [self.data.captions[row] for row in self._some(_DESCRIBED).tolist()]
        words = StyleWords.learn(torch.cat(found), captions, self.shape.least)
        return StyleEncoder(self.network, self.size, words)

    def _some(self, count: int) -> Tensor:
        """Indices of at most `count` images, a fixed random choice."""
        return torch.randperm(self.image_count, generator=torch.Generator().manual_seed(0))[:count]

    def export(self, folder: Path) -> None:
        """Write the file of the encoder, in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder().save(folder / FILE)


def _check(recipe: Recipe, shape: StyleRecipe, loss: StyleLoss) -> None:
    """Raise BadInput for settings that this task does not support."""
    if not shape.channels or any(each % GROUPS for each in shape.channels):
        raise BadInput(f"network.channels must be multiples of {GROUPS}, not {list(shape.channels)}.")
    if loss.labels not in LABELS:
        raise BadInput(f"loss.labels must be {', '.join(LABELS[:-1])} or {LABELS[-1]}, not '{loss.labels}'.")
    if recipe.data.scenes or recipe.data.crop:
        raise BadInput("a style encoder is trained on single complete images: leave data.scenes and data.crop out.")
    refuse_small_batch(recipe.optim.batch, 4 if loss.labels == "crops" else max(4, 2 * loss.views))
