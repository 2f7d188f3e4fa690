"""Small random encoders of content and style, and folders of coloured shapes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil

from sfumato.libraries import quiet
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.retrieval.index import FORMAT
from sfumato.retrieval.triplets import Images, Triplets
from sfumato.style.describers import Describers
from sfumato.style.encoder import StyleEncoder
from sfumato.style.files import FILE
from sfumato.style.key_value import KeyValueChanges
from sfumato.style.network import StyleNetwork
from sfumato.style.tokens import ModalityTokens, Parasol
from sfumato.style.words import StyleWords
from sfumato.train.dual_encoder import MEAN, STD
from sfumato.train.dual_encoder_network import DualEncoderNetwork, build_dual_encoder
from sfumato.train.recipe import Recipe
from tests import tiny
from tests.train.small import small_recipe

SIDE = 16
CONTENT, STYLE = 10, 12
"""Dimensions of the small encoders."""


def style_encoder(seed: int = 0, words: tuple[str, ...] = ("flat", "round")) -> StyleEncoder:
    with tiny.seeded(seed):
        network = StyleNetwork((8, 16, 16), 12).eval().requires_grad_(False)
        means = torch.randn(len(words), 12)
    return StyleEncoder(network, SIDE, StyleWords(words, means, torch.zeros(12)))


def save_content(folder: Path, seed: int = 0) -> Path:
    shape = DualEncoderNetwork(width=64, image_layers=1, text_layers=1, patch=8, projection=10, context=16)
    tokenizer = tiny.tiny_tokenizer(context=16)
    side = {"height": SIDE, "width": SIDE}
    with tiny.seeded(seed):
        clip = build_dual_encoder(shape, SIDE, tokenizer)
    processor = CLIPImageProcessorPil(size=side, do_center_crop=False, image_mean=list(MEAN), image_std=list(STD))
    with quiet():
        for part in (clip, tokenizer, processor):
            part.save_pretrained(folder)
    return folder


def save_both(folder: Path, seed: int = 0, words: tuple[str, ...] = ("flat", "round")) -> tuple[Path, Path]:
    """Folder of the content encoder, folder of the style encoder."""
    (folder / "style").mkdir(parents=True)
    style_encoder(seed, words).save(folder / "style" / FILE)
    return save_content(folder / "content", seed), folder / "style"


def random_tokens(width: int, seed: int = 0, unet: nn.Module | None = None) -> ModalityTokens:
    """Random tokens, two per modality, that also change keys and values of `unet`."""
    with tiny.seeded(seed):
        tokens = ModalityTokens(12, 10, 16, width, 2, 3, KeyValueChanges.layers_of(unet) if unet is not None else None)
        nn.init.normal_(tokens.null_style)
        nn.init.normal_(tokens.null_content)
        for each in tokens.changes.weights:
            nn.init.normal_(each, std=0.2)
    return tokens.half().float().eval().requires_grad_(False)  # as in a file


def save_parasol(folder: Path, network: DiffusionModel, words: tuple[str, ...] = ("flat", "round")) -> dict[str, str]:
    """Options of the method parasol: a file of random tokens for a model, and its encoders."""
    content, style = save_both(folder / "encoders", words=words)
    describers = Describers.load(content, style)
    path = folder / "parasol.safetensors"
    fingerprints = describers.content.fingerprint, describers.style.fingerprint
    Parasol(random_tokens(network.token_width, unet=network.unet), network.fingerprint(), *fingerprints).save(path)
    return {"parasol": str(path), "content_encoder": str(content), "style_encoder": str(style)}


def write_triplets(path: Path, place: Path, describers: Describers) -> list[str]:
    """Write triplets that consist of one image each, with random descriptors; return the files of the images."""
    files = sorted(str(each) for each in place.glob("*.png"))
    vectors = {"content": unit(len(files), CONTENT).numpy(), "style": unit(len(files), STYLE).numpy()}
    images, rows = Images(files, files, vectors, {}), np.arange(len(files))
    about = {"format": FORMAT} | {n: {"fingerprint": describers.of(n).fingerprint} for n in ("content", "style")}
    pq.write_table(Triplets(images, images, images, rows, rows).table(about), path)
    return files


def parasol_recipe(
    triplets: Path, images: Path, model: Path, encoders: tuple[Path, Path], batch: int = 4, **loss: Any
) -> Recipe:
    """Recipe for two steps of PARASOL with tiny networks, in which every second token is dropped."""
    network = {"model": str(model), "triplets": str(triplets), "hidden": 16}
    network |= {"content": str(encoders[0]), "style": str(encoders[1])}
    return small_recipe("parasol", images, 2, network, batch=batch, drop_style=0.5, drop_content=0.5, **loss)


def shapes(folder: Path, count: int, size: int = 20) -> list[Path]:
    """`count` different images in the subfolders one/ and two/."""
    draw = np.random.default_rng(0)
    paths = []
    for number in range(count):
        place = folder / ("one", "two")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.full((size, size, 3), 255, np.uint8)
        x, y = draw.integers(0, size // 2, 2)
        pixels[y : y + size // 2, x : x + size // 2] = draw.integers(0, 256, 3)
        paths.append(place / f"{number:03}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def unit(n, d, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)
