"""Training of PARASOL's tokens for a text-to-image model: the networks that compute them from style and content.

Of the U-Net, which the paper trains completely, only changes of the key and value projections of its cross-attention
are trained (`sfumato.style.key_value`). They are stored in the exported file and used only with its tokens, so the file
is small and the diffusion model is not changed for other methods.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided, Term
from sfumato.core.loop import reverse
from sfumato.core.noise import gaussian_batch
from sfumato.core.rows import TARGET
from sfumato.errors import BadInput
from sfumato.models.conditioning import token_widths
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model
from sfumato.shifts.two_modalities import TwoModalities
from sfumato.style.describers import Describers
from sfumato.style.key_value import KeyValueChanges
from sfumato.style.tokens import ModalityTokens, Parasol
from sfumato.train.attention import use_fastest_attention
from sfumato.train.binding import bound_before, refuse_changes
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.content import content_caption
from sfumato.train.dataset import open_images, save_grid
from sfumato.train.latents import cached_latents
from sfumato.train.parasol_loss import Frozen, ParasolLoss, ParasolTraining
from sfumato.train.parasol_start import take_weights
from sfumato.train.parasol_text import start_from_text, text_embeddings
from sfumato.train.ranges import ranged
from sfumato.train.recipe import Recipe, fill
from sfumato.train.registry import task
from sfumato.train.task import Batch, Phase
from sfumato.train.triplets import SELECTED, TripletData, read_triplets

_LOG = logging.getLogger(__name__)
FILE = "parasol.safetensors"
"""Name of the exported file."""
_SHOWN, _STEPS = 8, 25
"""Number of images in a sample grid, and number of sampling steps."""


@dataclass(frozen=True)
class ParasolNetwork:
    """The networks: table [network].

    Attributes:
        model: the diffusion model: bundled name, folder, single file or hub id.
        triplets: table from `sfumato triplets`.
        content: content encoder, a CLIP folder; "" for the bundled one.
        style: style encoder; "" for the bundled one.
        hidden: width of the hidden layers of the networks that compute the tokens; 0 for linear maps.
        tokens: tokens per modality without `captions`; 1 in the paper.
        captions: captions, at most, whose text embeddings the tokens start from. Each modality then has as many tokens
            as a prompt, and they are added. 0: the tokens are stacked and start from random weights, as in the paper.
        key_value: whether changes of the key and value projections of cross-attention are trained; without them, only
            the networks that compute the tokens are trained.
        start: PARASOL file with the initial weights, for the same encoders and with the same settings of the networks;
            "" for new ones. It may belong to another state of the model, as after further training of the U-Net.
    """

    model: str
    triplets: str
    content: str = ""
    style: str = ""
    hidden: int = ranged(512, low=0, high=1 << 14)
    tokens: int = ranged(1, low=1, high=64)
    captions: int = ranged(0, low=0, high=1 << 13)
    key_value: bool = True
    start: str = ""


@task("parasol")
class ParasolTask:
    """Train the tokens on triplets.

    Args:
        recipe: settings of the run.
        folder: folder of the run, in which the latents are cached.
        device: device of all networks.

    Raises:
        BadInput: a setting is invalid, the data or a model cannot be used, or the checkpoints in `folder` were trained
            with other networks.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> None:
        self.shape = fill(ParasolNetwork, recipe.network, "network")
        self.loss = fill(ParasolLoss, recipe.loss, "loss")
        self.loss.check_timesteps()
        if recipe.data.scenes or recipe.data.crop:
            raise BadInput("PARASOL is trained on single complete images: leave data.scenes and data.crop out.")
        describers = Describers.load(self.shape.content or None, self.shape.style or None, device)
        table = read_triplets(self.shape.triplets, describers)
        self.model = load_model(self.shape.model, str(device), "fp32")
        _check_model(self.shape.model, self.model)
        self.model.latent_shape(recipe.data.size, recipe.data.size)
        self.bound_to = {
            "model": self.model.fingerprint(),
            "content descriptors": describers.content.fingerprint,
            "style descriptors": describers.style.fingerprint,
        }
        refuse_changes(folder, bound_before(folder), self.bound_to)
        self.data = open_images(recipe)
        self.triplets = TripletData.of(table, self.shape.triplets, recipe.data.folder, self.data)
        if missing := self.triplets.missing:
            _LOG.warning(
                "%d of %d triplets are ignored: their output image is not in %s.",
                missing, missing + len(self.triplets.rows), SELECTED,
            )  # fmt: skip
        self.image_count = len(self.triplets.rows.unique())
        unscaled = cached_latents(self.model.codec.module, self.data, folder / "cache")
        self.latents = self.model.codec.scaled(unscaled)
        use_fastest_attention(self.model.unet, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            tokens = self._tokens(describers, recipe.seed, folder)
        self.frozen = Frozen(self.model, describers)
        self.module = ParasolTraining(tokens, self.frozen, self.loss)
        self.phases = (Phase("parasol", self.module),)

    def _tokens(self, describers: Describers, seed: int, folder: Path) -> ModalityTokens:
        """The networks with their initial weights."""
        rows = self.triplets.rows.tolist() if self.shape.captions else []
        captions = [(content_caption(self.data, row), self.data.caption(row)) for row in rows]
        length = text_embeddings(self.model, [""]).shape[1] if captions else self.shape.tokens
        tokens = ModalityTokens(
            describers.style.dimension, describers.content.dimension, self.shape.hidden, self.model.token_width,
            length, length, KeyValueChanges.layers_of(self.model.unet) if self.shape.key_value else None,
            min(self.shape.captions, len({name for name, _ in captions})),
        )  # fmt: skip
        if newest_checkpoint(folder / "checkpoints") is not None:
            return tokens
        if self.shape.start:
            take_weights(tokens, self.shape.start, describers)
        elif captions:
            style, content = self.triplets.style, self.triplets.content
            error = start_from_text(tokens, self.model, describers, style, content, captions, seed)
            _LOG.info("The tokens explain %.0f %% of the variance of the text embeddings.", 100 * (1 - error))
        return tokens

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Draw `size` triplets, noise, timesteps, and the tokens to drop; see `ParasolTraining` for the keys."""
        chosen = torch.randint(len(self.triplets.rows), (size,), generator=generator)
        x0 = self.latents[self.triplets.rows[chosen]]
        return {
            "x0": x0,
            "eps": torch.randn(x0.shape, generator=generator),
            "t": self.loss.draw(size, len(self.model.schedule), generator),
            "style": self.triplets.style[chosen],
            "content": self.triplets.content[chosen],
            "keep_style": torch.rand(size, generator=generator) >= self.loss.drop_style,
            "keep_content": torch.rand(size, generator=generator) >= self.loss.drop_content,
        }

    def parasol(self) -> Parasol:
        """The tokens with the current weights, and the fingerprints of the networks that they belong to."""
        bound = self.bound_to
        return Parasol(self.module.tokens, bound["model"], bound["content descriptors"], bound["style descriptors"])

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> None:
        """Save a grid: output images x of the first triplets above samples under their c_y and a_s (25 steps)."""
        count = min(_SHOWN, len(self.triplets.rows))
        real = torch.from_numpy(self.data.pixels(self.triplets.rows[:count].tolist())).float() / 127.5 - 1
        drawn = torch.cat([self._drawn(row) for row in range(count)])
        save_grid(folder / f"step-{step:08d}.png", [real, drawn], f"step {step}: real, from both descriptors")

    def _drawn(self, row: int) -> Float[Tensor, "1 3 h w"]:
        """Generate an image from noise under the descriptors of a triplet, with g_s = g_y = 3."""
        style, content = self.triplets.style[row : row + 1], self.triplets.content[row : row + 1]
        shift = TwoModalities(self.module.tokens, self.model, self.frozen.describers, style, content, 3.0, 3.0, 0)
        noise = gaussian_batch(self.latents.shape[1:], [row], device=self.model.device)
        *_, last = reverse(
            Guided(self.model, (Term(TARGET, None),)), noise, self.model.schedule.timesteps(_STEPS),
            Condition(rows=1), eta=0.0, noise_maps=lambda state: None, shifts=[shift],
        )  # fmt: skip
        return self.model.decode(last.x_prev).cpu()

    def export(self, folder: Path) -> None:
        """Write the file that the method parasol takes."""
        folder.mkdir(parents=True, exist_ok=True)
        self.parasol().save(folder / FILE)


def _check_model(name: str, model: DiffusionModel) -> None:
    """Raise BadInput for a network with inputs other than latents, timesteps and text embeddings."""
    only_tokens = (
        isinstance(model.unet, UNet2DConditionModel)
        and model.codec.module is not None
        and len(token_widths(model.unet)) == 1
        and not model.map_channels
        and model.class_labels is None
        and model.unet.config.addition_embed_type is None
    )
    if not only_tokens:
        raise BadInput(
            f"network.model = '{name}' must be a latent diffusion model whose network takes text and nothing else, "
            "like Stable Diffusion 1 and 2: no SDXL, class labels or inpainting."
        )
