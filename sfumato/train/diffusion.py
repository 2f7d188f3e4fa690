"""The second stage (Rombach et al., CVPR 2022, section 3.2-3.3): a text-conditioned U-Net in the frozen latent space.

The loss is that of `sfumato.train.denoising`, with caption dropout for classifier-free guidance (Ho and Salimans 2021).
"""

from functools import cached_property
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from sfumato.data.scenes import Scenes
from sfumato.errors import BadInput
from sfumato.train.attention import use_fastest_attention
from sfumato.train.binding import bound_before, refuse_changes, settings_of
from sfumato.train.conditioning import bound_text, build_text_encoder, load_tokenizer, refuse_partial_evaluator
from sfumato.train.dataset import TrainingData, draw_captions, exported_folder, open_data, save_grid
from sfumato.train.denoising import Denoising
from sfumato.train.export import assemble, export_pipeline
from sfumato.train.frozen import load_autoencoder
from sfumato.train.grounding import GroundedCaptions
from sfumato.train.latents import (
    SCALE,
    cached_latents,
    encoder_fingerprint,
    kept_statistics,
    normalise_latent_space,
    scale_written,
)
from sfumato.train.noise import DiffusionLoss, noise_scheduler
from sfumato.train.recipe import Recipe, fill
from sfumato.train.registry import task
from sfumato.train.seeds import step_generator
from sfumato.train.skips import draw_dropped
from sfumato.train.task import Batch, Phase
from sfumato.train.tokenizer import Tokens
from sfumato.train.unet import DiffusionNetwork, build_unet, take_weights


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
            raise BadInput(
                f"loss.{hooked[0]} attaches hooks to the U-Net, so run.compile cannot be used: leave one of them out."
            )
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
