"""The second stage (Rombach et al., CVPR 2022, section 3.2-3.3): a text-conditioned U-Net in the frozen latent space.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,    L = w(t) |target - f(x_t, t, c)|^2

with target eps or v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0 (Salimans and Ho 2022), min-SNR weighting w (Hang et al.
2023; off by default), caption dropout for classifier-free guidance (Ho and Salimans 2021), a loss of the
cross-attention maps (`sfumato.train.grounding`; off by default), and skip dropout (`sfumato.train.skips`; off by
default).
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from sfumato.core.condition import Condition
from sfumato.data.scenes import Scenes
from sfumato.errors import BadInput
from sfumato.metrics.frozen import load_frozen
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.forward import forward
from sfumato.models.taps import tapped
from sfumato.train.attention import use_fastest_attention
from sfumato.train.binding import bound_before, refuse_changes, settings_of
from sfumato.train.conditioning import (
    TextEncoderRecipe,
    bound_text,
    build_text_encoder,
    load_tokenizer,
    refuse_partial_evaluator,
)
from sfumato.train.dataset import TrainingData, draw_captions, exported_folder, open_data, save_grid
from sfumato.train.export import assemble, export_pipeline
from sfumato.train.frozen import load_autoencoder, refuse_other_config
from sfumato.train.grounding import GroundedCaptions, grounding_loss
from sfumato.train.latents import (
    SCALE,
    cached_latents,
    encoder_fingerprint,
    kept_statistics,
    normalise_latent_space,
    scale_written,
)
from sfumato.train.noise import DiffusionLoss, noise_scheduler
from sfumato.train.ranges import ranged
from sfumato.train.recipe import Recipe, fill
from sfumato.train.registry import task
from sfumato.train.seeds import step_generator
from sfumato.train.skips import draw_dropped, skips_dropped
from sfumato.train.task import Batch, Phase
from sfumato.train.tokenizer import Tokens


@dataclass(frozen=True)
class DiffusionNetwork:
    """Architecture of the U-Net and the pretrained networks it is trained with: table [network].

    Attributes:
        autoencoder: folder exported by `sfumato train autoencoder`.
        text: the text encoder whose last hidden states are the condition.
        start: folder of a U-Net of the same architecture with the initial weights, such as the subfolder unet/ of a
            pipeline; "" for random weights.
        evaluator: folder exported by `sfumato train dual-encoder`. It is exported with the pipeline and scores its
            images, so its text encoder must not condition the U-Net. "" for none.
        channels: width of each resolution level, from the resolution of the latents down.
        heads: number of attention heads of each level; each divides the width of its level.
        layers: residual blocks per level.
        groups: groups of the group normalisation.
    """

    autoencoder: str
    text: TextEncoderRecipe = field(default_factory=TextEncoderRecipe)
    start: str = ""
    evaluator: str = ""
    channels: tuple[int, ...] = ranged((64, 160, 256), low=1)
    heads: tuple[int, ...] = ranged((2, 5, 8), low=1)
    layers: int = ranged(1, low=1)
    groups: int = ranged(16, low=1)


def build_unet(shape: DiffusionNetwork, latent_channels: int, side: int, width: int) -> UNet2DConditionModel:
    """Build a U-Net with random weights and cross-attention at every resolution.

    Args:
        shape: its architecture.
        latent_channels: channels of the latents.
        side: side of the latents, a multiple of 2^(levels - 1).
        width: channels of the text encoder's hidden states.

    Raises:
        BadInput: the number of heads or a head count does not match the widths, a width is not a multiple of `groups`,
            or the latents cannot be halved once per level.
    """
    levels = len(shape.channels)
    if not levels or len(shape.heads) != levels or any(c % h for c, h in zip(shape.channels, shape.heads, strict=True)):
        raise BadInput(
            f"network.channels = {list(shape.channels)} needs at least one width, and network.heads = "
            f"{list(shape.heads)} one number of heads per width, which divides it."
        )
    if any(c % shape.groups for c in shape.channels):
        raise BadInput(
            f"network.channels must be multiples of network.groups = {shape.groups}, not {list(shape.channels)}."
        )
    if side % 2 ** (levels - 1):
        raise BadInput(
            f"latents of side {side} cannot be halved {levels - 1} times; use fewer levels in network.channels."
        )
    return UNet2DConditionModel(
        sample_size=side, in_channels=latent_channels, out_channels=latent_channels,
        block_out_channels=shape.channels, attention_head_dim=shape.heads, layers_per_block=shape.layers,
        down_block_types=("CrossAttnDownBlock2D",) * levels, up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=width, norm_num_groups=shape.groups,
    )  # fmt: skip


def take_weights(unet: UNet2DConditionModel, start: str) -> None:
    """Load the weights of the U-Net in the folder `start` into `unet`.

    Raises:
        BadInput: the folder cannot be read, or it is a U-Net of another architecture.
    """
    trained = load_frozen(UNet2DConditionModel, exported_folder(start))
    weights = trained.state_dict()
    shapes = {name: value.shape for name, value in weights.items()}
    for name in {**shapes, **unet.state_dict()}:
        own = unet.state_dict().get(name)
        if own is None or name not in shapes or own.shape != shapes[name]:
            raise BadInput(
                f"network.start = '{start}' is a U-Net of another architecture ({name} differs): give [network] and "
                "[network.text] the widths that it was trained with, or leave network.start out."
            )
    refuse_other_config(unet, trained, "network.start", start)
    unet.load_state_dict(weights)


class Denoising(nn.Module):
    """The U-Net, and the text encoder if it is trained, with the loss; forward(batch) -> (loss, scalars).

    The batch contains "x0" [b,c,h,w], "eps" [b,c,h,w], "t" [b] and the condition: token ids "ids" [b,n] if the text
    encoder is trained, otherwise its last hidden states "tokens" [b,n,d]; with grounding also "words" and "masks" (see
    `sfumato.train.grounding`), and with skip dropout "dropped" [b] (see `sfumato.train.skips`).

    Args:
        unet: the denoising network.
        scheduler: the noise schedule.
        loss: prediction type and weighting.
        text: the text encoder if it is trained with the U-Net; None if it is frozen.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
        loss: DiffusionLoss,
        text: CLIPTextModel | None = None,
    ) -> None:
        super().__init__()
        self.unet, self.text = unet, text
        self.loss = loss
        self.register_buffer("abar", scheduler.alphas_cumprod.clone(), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted mean squared error, and the unweighted one ("mse") to log."""
        x0, eps, t = batch["x0"], batch["eps"], batch["t"]
        abar = self.abar[t][:, None, None, None]
        x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * eps
        target = eps if self.loss.prediction == "epsilon" else abar.sqrt() * eps - (1 - abar).sqrt() * x0
        tokens = batch["tokens"] if self.text is None else self.text(batch["ids"]).last_hidden_state
        maps = RecordMaps(Layers(cross=True))
        dropped = skips_dropped(self.unet, batch["dropped"]) if self.loss.skip_dropout else nullcontext()
        with dropped, tapped(self.unet, [maps] if self.loss.grounding else []):
            output = forward(self.unet, x_t, t, Condition(tokens=tokens))
        error = (output.float() - target).square().mean((1, 2, 3))
        loss, scalars = (self._weight(abar.flatten()) * error).mean(), {"mse": error.detach().mean()}
        if self.loss.grounding:
            divergence = grounding_loss(maps.maps, batch["words"], batch["masks"], abar.flatten())
            loss, scalars = loss + self.loss.grounding * divergence, scalars | {"grounding": divergence.detach()}
        return loss, scalars

    def _weight(self, abar: Tensor) -> Tensor:
        """Min-SNR weight, [b]: min(SNR, gamma) / SNR for eps, min(SNR, gamma) / (SNR + 1) for v."""
        if self.loss.min_snr == 0:
            return torch.ones_like(abar)
        snr = abar / (1 - abar)
        if self.loss.prediction == "epsilon":
            return (self.loss.min_snr / snr).clamp(max=1)  # not min(SNR, gamma) / SNR: abar may underflow to 0
        return snr.clamp(max=self.loss.min_snr) / (snr + 1)


@task("diffusion")
class DiffusionTask:
    """Train a text-conditioned latent diffusion model on captioned images.

    Args:
        recipe: settings of the run.
        folder: folder of the run, in which latents and a trained tokenizer are cached.
        device: device of the frozen networks.

    Raises:
        BadInput: a setting is invalid, the data or a pretrained model cannot be used, or the checkpoints in `folder`
            were trained with other settings.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> None:
        self.recipe = recipe
        self.shape = fill(DiffusionNetwork, recipe.network, "network")
        self.loss = fill(DiffusionLoss, recipe.loss, "loss")
        self.scheduler = noise_scheduler(self.loss)
        self.shape.text.check()
        hooked = [name for name in ("grounding", "skip_dropout") if getattr(self.loss, name)]
        if hooked and recipe.run.compile:
            raise BadInput(f"loss.{hooked[0]} attaches hooks to the U-Net: leave it or run.compile out.")
        if recipe.data.crop:
            raise BadInput("a diffusion model is trained on complete images: leave data.crop out.")
        self.autoencoder = load_autoencoder(exported_folder(self.shape.autoencoder)).to(device)
        self.tokenizer = load_tokenizer(self.shape.text, folder, lambda: self.data.texts())
        self.text = build_text_encoder(self.shape.text, self.tokenizer, recipe.seed).to(device)
        refuse_partial_evaluator(self.shape.evaluator, self.text)
        self.unet = self._build(recipe)
        self.bound_to = self._bound_settings()
        before = bound_before(folder)
        refuse_changes(folder, before, self.bound_to)
        self.image_count = len(self.data)
        self.tokens = Tokens(self.tokenizer, ["", *self.data.texts()])
        self.weights = torch.as_tensor(self.data.sampling_weights())
        self.grounded = self._grounded() if self.loss.grounding else None
        cache = folder / "cache"
        latents = cached_latents(self.autoencoder, self.data, cache)
        mean, std = kept_statistics(latents, cache, self.bound_to["encoder"], before)
        self.bound_to[SCALE] = scale_written(mean, std)
        self.latents = normalise_latent_space(self.autoencoder, latents, (mean, std))
        for network in (self.unet, self.text):
            use_fastest_attention(network, device)
        trained_text = None if self.shape.text.frozen else self.text
        module = Denoising(self.unet, self.scheduler, self.loss, trained_text)
        self.phases = (Phase("unet", module, compiled=(self.unet,)),)

    @cached_property
    def data(self) -> TrainingData:
        """The training data. It is decoded on first use, after all other checks unless a tokenizer is trained on it."""
        return open_data(self.recipe)

    def _build(self, recipe: Recipe) -> UNet2DConditionModel:
        f = 2 ** (len(self.autoencoder.config.block_out_channels) - 1)
        if recipe.data.size % f:
            raise BadInput(f"data.size must be a multiple of the autoencoder's f = {f}, not {recipe.data.size}.")
        channels, width = self.autoencoder.config.latent_channels, self.text.config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            unet = build_unet(self.shape, channels, recipe.data.size // f, width)
        if self.shape.start:
            take_weights(unet, self.shape.start)
        return unet

    def _grounded(self) -> GroundedCaptions:
        if not isinstance(self.data, Scenes):
            raise BadInput("loss.grounding needs the masks of scenes: set data.scenes, or leave loss.grounding out.")
        return GroundedCaptions(self.data, self.tokens, self.unet.config.sample_size)

    def _bound_settings(self) -> dict[str, str]:
        """Entries of `bound_to` (see `binding`), without the statistics of the latents."""
        frozen = {"encoder": encoder_fingerprint(self.autoencoder)}
        frozen["encoder.norm_num_groups"] = str(self.autoencoder.config.norm_num_groups)
        frozen |= bound_text(self.shape.text, self.text, self.tokenizer)
        noise = settings_of(self.loss, "loss", "prediction", "schedule", "beta_start", "beta_end")
        return frozen | noise | settings_of(self.shape, "network", "heads", "groups")

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Draw `size` latents, noise, timesteps and captions with caption dropout; see `Denoising` for the keys."""
        rows = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        x0 = self.latents[rows]
        eps = torch.randn(x0.shape, generator=generator)
        t = self.loss.draw(size, self.scheduler.config.num_train_timesteps, generator)
        dropped = torch.rand(size, generator=generator) < self.loss.condition_dropout
        captions, words = self._captions(rows, generator)
        ids, _ = self.tokens(["" if drop else caption for caption, drop in zip(captions, dropped, strict=True)])
        batch = {"x0": x0, "eps": eps, "t": t} | (
            {"tokens": self.encode(ids)} if self.shape.text.frozen else {"ids": ids}
        )
        if self.loss.skip_dropout:
            batch["dropped"] = draw_dropped(self.scheduler.alphas_cumprod[t], self.loss.skip_dropout, generator)
        if self.grounded is None:
            return batch
        kept = [[] if drop else some for some, drop in zip(words, dropped, strict=True)]
        return batch | self.grounded.targets(rows, ids, kept)

    def _captions(self, rows: Tensor, generator: torch.Generator) -> tuple[list[str], list[list[str]]]:
        """Random captions, and with grounding the words of their objects."""
        if self.grounded is None:
            return draw_captions(self.data, rows, generator), []
        return self.grounded.draw(rows, generator)

    @torch.no_grad()
    def encode(self, ids: Tensor) -> Tensor:
        """Last hidden states [b,n,d] of the text encoder for token ids [b,n], as in a Stable Diffusion pipeline."""
        return self.text(ids.to(next(self.text.parameters()).device)).last_hidden_state

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> None:
        """Save a grid of up to 16 real images above samples for their captions (25 steps, guidance scale 4)."""
        count = min(16, int((self.weights > 0).sum()))
        rows = torch.multinomial(self.weights, count, generator=step_generator(0, 0, 0, tag="sample")).tolist()
        pipe = assemble(self.autoencoder, self.text, self.tokenizer, self.unet, self.scheduler)
        pipe.set_progress_bar_config(disable=True)
        latents = pipe(
            [self.data.caption(row) for row in rows], num_inference_steps=25, guidance_scale=4.0,
            generator=[torch.Generator().manual_seed(i) for i in range(count)], output_type="latent",
        ).images  # fmt: skip
        drawn = self.autoencoder.decode(latents / self.autoencoder.config.scaling_factor).sample.float().cpu()
        real = torch.from_numpy(self.data.pixels(rows)).float() / 127.5 - 1
        save_grid(folder / f"step-{step:08d}.png", [real, drawn], f"step {step}: real, generated")

    def export(self, folder: Path) -> None:
        """Write the pipeline in half precision, with the evaluator in its subfolder `dual_encoder`."""
        pipe = assemble(self.autoencoder, self.text, self.tokenizer, self.unet, self.scheduler)
        evaluator = exported_folder(self.shape.evaluator) if self.shape.evaluator else None
        export_pipeline(pipe, evaluator, exported_folder(self.shape.autoencoder), folder)
