"""A small CLIP (Radford et al. 2021): an image encoder and a text encoder with a shared embedding space.

The text encoder conditions a diffusion model; both encoders together score edits. The class is transformers' CLIPModel.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.files import replaced_folder
from sfumato.libraries import quiet
from sfumato.networks.clip_tokenizer import read_tokenizer
from sfumato.train.attention import use_fastest_attention
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.contrast import refuse_small_batch
from sfumato.train.dataset import draw_captions, draw_pixels, exported_folder, open_data
from sfumato.train.encoder_start import load_start
from sfumato.train.processes import rows_of_all
from sfumato.train.ranges import ranged
from sfumato.train.recipe import Recipe, fill
from sfumato.train.registry import task
from sfumato.train.task import Batch, Phase
from sfumato.train.tokenizer import (
    LEAST_CONTEXT,
    LEAST_VOCABULARY,
    Tokens,
    kept_tokenizer,
    tokenizer_fingerprint,
    train_tokenizer,
)

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
#: Logits are scaled by at most 100 for stability (Radford et al. 2021, section 2.5).
MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True)
class DualEncoderNetwork:
    """Architecture and initial weights of the two encoders: table [network].

    Attributes:
        width: channels of both encoders, a multiple of 64; one attention head per 64 channels.
        image_layers: blocks of the image encoder.
        text_layers: blocks of the text encoder.
        patch: side of the image patches in pixels.
        projection: dimension of the shared embedding space.
        vocabulary: largest vocabulary of the tokenizer.
        context: longest caption in tokens, start and end token included.
        start: folder of an exported dual encoder with the initial weights and the tokenizer; "" for random weights and
            a new tokenizer. It determines the settings above and `loss.temperature`, which can then be left out.
        freeze_text: train only the image encoder (requires `start`), so that a diffusion model conditioned on the text
            encoder stays valid (LiT, Zhai et al., CVPR 2022, with the roles of the encoders exchanged).
    """

    width: int = ranged(192, low=64)
    image_layers: int = ranged(6, low=1)
    text_layers: int = ranged(4, low=1)
    patch: int = ranged(8, low=1)
    projection: int = ranged(128, low=1)
    vocabulary: int = ranged(3000, low=LEAST_VOCABULARY)
    context: int = ranged(32, low=LEAST_CONTEXT)
    start: str = ""
    freeze_text: bool = False


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


def check_encoders(shape: DualEncoderNetwork, size: int) -> None:
    """Check the architecture for images of side `size`.

    Raises:
        BadInput: `size` is not a multiple of the patch size, or the width not a multiple of 64.
    """
    if size % shape.patch:
        raise BadInput(f"data.size must be a multiple of network.patch = {shape.patch}, not {size}.")
    if shape.width % 64:
        raise BadInput(f"network.width must be a multiple of 64, not {shape.width}.")


def build_dual_encoder(
    shape: DualEncoderNetwork, size: int, tokenizer: CLIPTokenizer, temperature: float = 0.07
) -> CLIPModel:
    """Build a CLIPModel with random weights.

    Args:
        shape: its architecture.
        size: side of the images in pixels.
        tokenizer: gives the vocabulary size and the special tokens.
        temperature: initial temperature of the softmax.

    Raises:
        BadInput: see `check_encoders`.
    """
    check_encoders(shape, size)
    transformer = dict(
        hidden_size=shape.width, intermediate_size=4 * shape.width, num_attention_heads=shape.width // 64,
        projection_dim=shape.projection, hidden_act="gelu",
    )  # fmt: skip
    ids = dict(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text = (
        transformer
        | ids
        | dict(
            vocab_size=len(tokenizer),
            max_position_embeddings=shape.context,
            num_hidden_layers=shape.text_layers,
        )
    )
    vision = transformer | dict(image_size=size, patch_size=shape.patch, num_hidden_layers=shape.image_layers)
    return CLIPModel(
        CLIPConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=shape.projection,
            logit_scale_init_value=-math.log(temperature),
        )
    )


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


def jitter(pixels: Tensor, generator: torch.Generator, shift: float, zoom: float) -> Tensor:
    """Translate and scale each image at random; pixels from outside repeat the border.

    Args:
        pixels: float [n,3,h,w].
        generator: a CPU generator.
        shift: largest translation, as a fraction of the side.
        zoom: largest relative change of size.

    Returns:
        The augmented images, of the shape and on the device of `pixels`.
    """
    # affine_grid maps output to input coordinates in [-1,1], so an offset of 2 is one side.
    n = len(pixels)
    scale = 1 + zoom * (2 * torch.rand(n, generator=generator) - 1)
    offset = 2 * shift * (2 * torch.rand(n, 2, generator=generator) - 1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = offset
    grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
