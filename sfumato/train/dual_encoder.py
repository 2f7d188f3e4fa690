"""A small CLIP (Radford et al. 2021): an image encoder and a text encoder that agree on which caption fits which
picture.

The text encoder conditions the diffusion model, the image encoder scores edits. Both are transformers' CLIPModel.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from sfumato.errors import BadInput
from sfumato.files import replaced_folder
from sfumato.libraries import quiet
from sfumato.metrics.frozen import load_frozen
from sfumato.networks.clip_tokenizer import read_tokenizer
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.dataset import draw_captions, draw_pixels, exported_folder, open_data
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
#: Logits are scaled by at most 100 (Radford et al. 2021, section 2.5), so that training stays stable.
MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True)
class DualEncoderNetwork:
    """Shape of the two encoders.

    Attributes:
        width: channels of both encoders, one attention head per 64 of them.
        image_layers: blocks of the image encoder.
        text_layers: blocks of the text encoder.
        patch: pixels per image token, along one side.
        projection: size of the common feature.
        vocabulary: upper bound on the tokenizer's vocabulary.
        context: longest caption in tokens.
        start: exported dual encoder to go on from, instead of random weights; it brings its tokenizer.
        freeze_text: leave the text encoder as it is (with `start`), so that a diffusion model conditioned on it stays
            valid while the image encoder learns on (Zhai et al., LiT, CVPR 2022, with the encoders exchanged).
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
    """The contrastive loss and its augmentation.

    Attributes:
        temperature: initial temperature of the softmax.
        shift: largest translation of the picture, as a share of its side.
        zoom: largest relative change of size.
    """

    temperature: float = ranged(0.07, above=0)
    shift: float = ranged(0.08, low=0, high=1)
    zoom: float = ranged(0.12, low=0, below=1)


def check_towers(shape: DualEncoderNetwork, size: int) -> None:
    """Refuse what cannot be built.

    Raises:
        BadInput: the patches do not fill pictures of `size` pixels, or the heads not the width.
    """
    if size % shape.patch:
        raise BadInput(f"data.size must be a multiple of network.patch = {shape.patch}, not {size}.")
    if shape.width % 64:
        raise BadInput(f"network.width must be a multiple of 64, not {shape.width}.")


def build_dual_encoder(
    shape: DualEncoderNetwork, size: int, tokenizer: CLIPTokenizer, temperature: float = 0.07
) -> CLIPModel:
    """A freshly initialised CLIPModel for pictures of `size` pixels.

    Raises:
        BadInput: as `check_towers`.
    """
    check_towers(shape, size)
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
    """CLIPModel with the symmetric cross-entropy over the batch's similarity matrix."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over the batches of all processes; a caption that occurs twice is right for both of its pictures."""
        self.clip.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        out = self.clip(input_ids=batch["ids"], attention_mask=batch["mask"], pixel_values=batch["pixels"])
        images, texts, ids = rows_of_all(out.image_embeds), rows_of_all(out.text_embeds), rows_of_all(batch["ids"])
        # Autocast would compute the logits, up to 100, to 8 bits: neighbouring captions would fall together.
        with torch.autocast(images.device.type, enabled=False):
            loss, right = contrastive_loss(images.float(), texts.float(), ids, self.clip.logit_scale.exp())
        return loss, {"in_batch_precision": right, "scale": self.clip.logit_scale.detach().exp()}


def contrastive_loss(images: Tensor, texts: Tensor, ids: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(symmetric cross-entropy, share of pictures whose own caption is the nearest), in the precision of the features.

    Args:
        images: features of unit length [n,d].
        texts: theirs [n,d].
        ids: tokens of the captions [n,context]; equal captions are right for each other's pictures.
        scale: of the logits, 1 / temperature.
    """
    logits = scale * images @ texts.T
    same = (ids[:, None] == ids[None]).all(-1).to(logits.dtype)
    target = same / same.sum(1, keepdim=True)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    top = logits.argmax(1)
    return loss, same[torch.arange(len(top), device=top.device), top].mean()


@task("dual-encoder")
class DualEncoderTask:
    """Trains a dual encoder on captioned pictures.

    Args:
        recipe: what is trained.
        folder: the run's, which keeps the tokenizer.
        device: where batches are made.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.shape = fill(DualEncoderNetwork, recipe.network, "network")
        self.loss = fill(DualEncoderLoss, recipe.loss, "loss")
        self.size = recipe.data.size
        if self.shape.start:
            exported_folder(self.shape.start)
        elif self.shape.freeze_text:
            raise BadInput("network.freeze_text needs network.start: a random text encoder is not worth freezing.")
        else:
            check_towers(self.shape, self.size)
        self.data = open_data(recipe)
        self.pictures = len(self.data)
        self.weights = torch.as_tensor(self.data.sampling_weights())
        started = newest_checkpoint(folder / "checkpoints") is not None
        self.tokenizer = kept_tokenizer(folder / "tokenizer", started, self._learn_tokenizer)
        self.bound_to = {"tokenizer": tokenizer_fingerprint(self.tokenizer)}
        self.tokens = Tokens(self.tokenizer, self.data.texts())
        self.clip = self._towers(recipe.seed)
        if self.shape.freeze_text:
            self.clip.text_model.requires_grad_(False)
            self.clip.text_projection.requires_grad_(False)
        encoders = (self.clip.vision_model, self.clip.text_model)
        self.phases = (Phase("dual_encoder", Contrast(self.clip), compiled=encoders),)

    def _learn_tokenizer(self) -> CLIPTokenizer:
        if self.shape.start:
            return read_tokenizer(exported_folder(self.shape.start))
        return train_tokenizer(self.data.texts(), self.shape.vocabulary, self.shape.context)

    def _towers(self, seed: int) -> CLIPModel:
        if self.shape.start:
            clip = load_frozen(CLIPModel, exported_folder(self.shape.start)).requires_grad_(True).train()
            if (side := clip.config.vision_config.image_size) != self.size:
                raise BadInput(f"data.size must be {side}, as that of {self.shape.start}, not {self.size}.")
            return clip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_dual_encoder(self.shape, self.size, self.tokenizer, self.loss.temperature)

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Augmented pixels, normalised as the exported preprocessor does, and token ids."""
        rows = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        pixels = jitter(draw_pixels(self.data, rows, self.device), generator, self.loss.shift, self.loss.zoom)
        ids, mask = self.tokens(draw_captions(self.data, rows, generator))
        return {"pixels": pixels, "ids": ids, "mask": mask}

    def sample(self, folder: Path, step: int) -> None:
        """A dual encoder draws nothing; its measure is in the log."""

    def export(self, folder: Path) -> None:
        """Write the CLIPModel folder with tokenizer and preprocessor."""
        side = {"height": self.size, "width": self.size}
        preprocessor = CLIPImageProcessorPil(
            size=side, crop_size=side, do_center_crop=False, image_mean=list(MEAN), image_std=list(STD)
        )
        with replaced_folder(folder) as beside, quiet():
            for part in (self.clip, self.tokenizer, preprocessor):
                part.save_pretrained(beside)


def jitter(pixels: Tensor, generator: torch.Generator, shift: float, zoom: float) -> Tensor:
    """Translate and scale each picture at random, on its device; what comes in from outside repeats the border."""
    n = len(pixels)
    scale = 1 + zoom * (2 * torch.rand(n, generator=generator) - 1)
    offset = 2 * shift * (2 * torch.rand(n, 2, generator=generator) - 1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = offset
    grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
