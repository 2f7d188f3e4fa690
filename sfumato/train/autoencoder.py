"""The first stage of latent diffusion (Rombach et al., CVPR 2022, section 3.1): KL- and VQ-regularised autoencoders.

Both use the classes of diffusers (AutoencoderKL, VQModel), so diffusers loads the exported folders. The loss is that of
`sfumato.train.reconstruction`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from sfumato.errors import BadInput
from sfumato.files import replaced_folder
from sfumato.metrics import load_perceptual
from sfumato.train.adversarial import Discrimination, PatchDiscriminator
from sfumato.train.autoencoder_network import AutoencoderNetwork, build_autoencoder, freeze_encoder, load_weights
from sfumato.train.binding import settings_of
from sfumato.train.crops import crops_with_edges
from sfumato.train.dataset import draw_pixels, exported_folder, open_data, save_grid
from sfumato.train.recipe import Recipe, fill
from sfumato.train.reconstruction import AutoencoderLoss, Reconstruction
from sfumato.train.registry import task
from sfumato.train.seeds import step_generator
from sfumato.train.task import Batch, Phase


@task("autoencoder")
class AutoencoderTask:
    """Train an autoencoder on images; every emoji is sampled equally often.

    Args:
        recipe: settings of the run.
        folder: folder of the run; unused.
        device: device on which batches are prepared.

    Raises:
        BadInput: a setting is invalid, or the data or a pretrained model cannot be used.
    """

    def __init__(self, recipe: Recipe, folder: Path | None = None, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.shape = fill(AutoencoderNetwork, recipe.network, "network")
        self.bound_to = settings_of(self.shape, "network", "groups")
        self.loss = fill(AutoencoderLoss, recipe.loss, "loss")
        self.size, self.crop = recipe.data.size, recipe.data.crop
        if self.crop > self.size or self.crop % self.shape.f:
            raise BadInput(f"data.crop must be a multiple of f={self.shape.f} up to {self.size}, not {self.crop}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.autoencoder = build_autoencoder(self.shape, self.size)
        if self.shape.start:
            load_weights(self.autoencoder, exported_folder(self.shape.start))
        if self.shape.freeze_encoder:
            freeze_encoder(self.autoencoder, self.shape)
        self.phases = self._phases(recipe.seed)
        self.data = open_data(recipe)
        self.image_count = len(self.data)
        self.weights = torch.as_tensor(self.data.sampling_weights())

    def _phases(self, seed: int) -> Sequence[Phase]:
        loss, perceptual = self.loss, None
        if loss.perceptual > 0:
            perceptual = load_perceptual(loss.perceptual_network)
        if loss.adversarial == 0:
            module = Reconstruction(self.autoencoder, loss, perceptual)
            return (Phase("autoencoder", module, compiled=(self.autoencoder.encoder, self.autoencoder.decoder)),)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            discriminator = PatchDiscriminator(loss.discriminator_channels, loss.discriminator_layers)
        discriminator.check(self.crop or self.size)
        reconstruction = Reconstruction(self.autoencoder, loss, perceptual, discriminator)
        second = Phase("discriminator", Discrimination(discriminator, reconstruction), loss.adversarial_start)
        # The decoder is not compiled: the adaptive weight differentiates its graph more than once.
        return (Phase("autoencoder", reconstruction, compiled=(self.autoencoder.encoder,)), second)

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Draw `size` images or crops in [-1,1] ("pixels"), and the noise that samples their latents ("noise")."""
        rows = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        pixels = draw_pixels(self.data, rows, self.device)
        if self.crop:
            pixels = crops_with_edges(pixels, self.crop, generator)
        side = pixels.shape[-1] // self.shape.f
        noise = torch.randn(size, self.shape.latent_channels, side, side, generator=generator)
        return {"pixels": pixels, "noise": noise}

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> None:
        """Save a grid of eight images above their reconstructions."""
        generator = step_generator(0, 0, 0, tag="sample")
        rows = torch.multinomial(self.weights, 8, replacement=True, generator=generator)
        side = self.size // self.shape.f
        noise = torch.randn(8, self.shape.latent_channels, side, side, generator=generator)
        batch = {"pixels": draw_pixels(self.data, rows, self.device), "noise": noise}
        module = self.phases[0].module
        device = next(module.parameters()).device
        x = batch["pixels"].cpu()
        xr = module.reconstruct({k: v.to(device) for k, v in batch.items()})[0].float().cpu()
        save_grid(folder / f"step-{step:08d}.png", [x, xr], f"step {step}: source, reconstruction")

    def export(self, folder: Path) -> None:
        """Write the autoencoder in the format of diffusers."""
        with replaced_folder(folder) as temporary:
            self.autoencoder.save_pretrained(temporary)
