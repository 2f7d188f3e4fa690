"""A small CLIP (Radford et al. 2021): an image encoder and a text encoder with a shared embedding space.

The text encoder conditions a diffusion model; both encoders together score edits. The class is transformers' CLIPModel.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.files import replaced_folder
from sfumato.libraries import quiet
from sfumato.networks.clip_tokenizer import read_tokenizer
from sfumato.train.attention import use_fastest_attention
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.clip_loss import Contrast
from sfumato.train.contrast import refuse_small_batch
from sfumato.train.dataset import draw_captions, draw_pixels, exported_folder, open_data
from sfumato.train.dual_encoder_network import DualEncoderNetwork, build_dual_encoder, check_encoders
from sfumato.train.encoder_start import load_start
from sfumato.train.ranges import ranged
from sfumato.train.recipe import Recipe, fill
from sfumato.train.registry import task
from sfumato.train.task import Batch, Phase
from sfumato.train.tokenizer import Tokens, kept_tokenizer, tokenizer_fingerprint, train_tokenizer
from sfumato.train.views import jitter

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class DualEncoderLoss:
    """Temperature of the contrastive loss and augmentation of the images: table [loss].

    Attributes:
        temperature: initial temperature of the softmax; not with `network.start`, which has its own.
        shift: largest translation of an image, as a fraction of its side.
        zoom: largest relative change of its size.
    """

    temperature: float = ranged(0.07, above=0)
    shift: float = ranged(0.08, low=0, high=1)
    zoom: float = ranged(0.12, low=0, below=1)


@task("dual-encoder")
class DualEncoderTask:
    """Train a dual encoder on captioned images.

    Args:
        recipe: settings of the run.
        folder: folder of the run, in which the tokenizer is saved.
        device: device on which batches are prepared.

    Raises:
        BadInput: a setting is invalid, or the data or the model in `network.start` cannot be used.
    """

    LOSS: ClassVar[type[DualEncoderLoss]] = DualEncoderLoss

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.shape = fill(DualEncoderNetwork, recipe.network, "network")
        self.loss = fill(self.LOSS, recipe.loss, "loss")
        self.size = recipe.data.size
        if recipe.data.crop:
            raise BadInput("encoders are trained on complete images: leave data.crop out.")
        refuse_small_batch(recipe.optim.batch, self._least_batch())
        start = load_start(recipe, exported_folder(self.shape.start)) if self.shape.start else None
        if start is None:
            self._check_new()
        self.data = open_data(recipe)
        self.image_count = len(self.data)
        self.weights = torch.as_tensor(self.data.sampling_weights())
        started = newest_checkpoint(folder / "checkpoints") is not None
        self.tokenizer = kept_tokenizer(folder / "tokenizer", started, self._learn_tokenizer)
        self.bound_to = {"tokenizer": tokenizer_fingerprint(self.tokenizer)}
        self.tokens = Tokens(self.tokenizer, self.data.texts())
        self.clip = self._build_encoders(recipe.seed) if start is None else start
        use_fastest_attention(self.clip, device)
        if self.shape.freeze_text:
            self.clip.text_model.requires_grad_(False)
            self.clip.text_projection.requires_grad_(False)
        encoders = (self.clip.vision_model, self.clip.text_model)
        self.phases = (Phase("dual_encoder", self._contrast(), compiled=encoders),)

    def _check_new(self) -> None:
        """Raise BadInput for settings with which no new encoders can be built."""
        if self.shape.freeze_text:
            raise BadInput(
                "network.freeze_text needs network.start: without it the text encoder would keep random weights."
            )
        check_encoders(self.shape, self.size)

    def _least_batch(self) -> int:
        """Smallest batch size that contains a negative."""
        return 2

    def _contrast(self) -> nn.Module:
        return Contrast(self.clip)

    def _learn_tokenizer(self) -> CLIPTokenizer:
        if self.shape.start:
            return read_tokenizer(exported_folder(self.shape.start))
        return train_tokenizer(self.data.texts(), self.shape.vocabulary, self.shape.context)

    def _build_encoders(self, seed: int) -> CLIPModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_dual_encoder(self.shape, self.size, self.tokenizer, self.loss.temperature)

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Draw `size` augmented images in [-1,1], as the exported preprocessor gives them, and their token ids."""
        rows = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        pixels = jitter(draw_pixels(self.data, rows, self.device), generator, self.loss.shift, self.loss.zoom)
        ids, mask = self.tokens(draw_captions(self.data, rows, generator))
        return {"pixels": pixels, "ids": ids, "mask": mask}

    def sample(self, folder: Path, step: int) -> None:
        """Do nothing: a dual encoder generates no images. Its accuracy is in the log."""

    def export(self, folder: Path) -> None:
        """Write the CLIPModel with its tokenizer and image processor."""
        side = {"height": self.size, "width": self.size}
        preprocessor = CLIPImageProcessorPil(
            size=side, crop_size=side, do_center_crop=False, image_mean=list(MEAN), image_std=list(STD)
        )
        with replaced_folder(folder) as temporary, quiet():
            for part in (self.clip, self.tokenizer, preprocessor):
                part.save_pretrained(temporary)
