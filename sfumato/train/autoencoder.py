"""The first stage of latent diffusion (Rombach et al., CVPR 2022, section 3.1): KL- and VQ-regularised autoencoders.

Both are diffusers' own classes (AutoencoderKL, VQModel), so what comes out loads anywhere. The loss is

    L = pixel |x - xr| + perceptual d(x, xr) + kl KL(q(z|x) || N(0, I)) + adversarial w_d g(xr)

with all terms averaged over pixels (the official KL loss sums over them, the VQ loss averages; here one recipe means
the same for both). Not used from the official code: `logvar`, which no optimizer there ever updates.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn

from sfumato.errors import BadInput
from sfumato.train.dataset import open_data, save_grid
from sfumato.train.recipe import Recipe, fill
from sfumato.train.seeds import step_generator
from sfumato.train.task import Batch, Phase


@dataclass(frozen=True)
class AutoencoderNetwork:
    """Shape of the autoencoder.

    Attributes:
        regularisation: "kl" or "vq".
        f: pixels per latent along one side: 2, 4, 8, 16 or 32.
        latent_channels: channels of the latent.
        channels: widths from full resolution down, log2(f) + 1 of them.
        layers: residual blocks per resolution.
        attention: self-attention in the middle block.
        groups: groups of the group normalisation.
        codebook: number of VQ codes.
    """

    regularisation: str = "kl"
    f: int = 4
    latent_channels: int = 4
    channels: tuple[int, ...] = (32, 64, 128)
    layers: int = 1
    attention: bool = False
    groups: int = 16
    codebook: int = 1024


@dataclass(frozen=True)
class AutoencoderLoss:
    """Weights of the terms; a term of weight 0 is not computed.

    Attributes:
        pixel: weight of |x - xr|.
        kl: weight of the KL divergence, per latent value.
        commitment: weight of the VQ commitment and codebook loss.
        perceptual: weight of the feature distance.
        perceptual_network: "efficientnet-lite0", or a folder with a dual encoder or a torchvision-free vision model.
        adversarial: factor on the adaptive weight of the patch GAN.
        adversarial_start: first step of the GAN.
    """

    pixel: float = 1.0
    kl: float = 1e-4
    commitment: float = 1.0
    perceptual: float = 0.0
    perceptual_network: str = "efficientnet-lite0"
    adversarial: float = 0.0
    adversarial_start: int = 10_000


def build_autoencoder(shape: AutoencoderNetwork, size: int) -> AutoencoderKL | VQModel:
    """A freshly initialised autoencoder.

    Raises:
        BadInput: f is not in {2, 4, 8, 16, 32}, the widths do not fit f, or `size` is no multiple of f.
    """
    if shape.f not in (2, 4, 8, 16, 32):
        raise BadInput(f"network.f must be 2, 4, 8, 16 or 32, not {shape.f}.")
    levels = int(math.log2(shape.f)) + 1
    if len(shape.channels) != levels:
        raise BadInput(f"network.channels needs {levels} widths for f={shape.f}, not {len(shape.channels)}.")
    if any(c % shape.groups for c in shape.channels):
        raise BadInput(f"network.channels must be multiples of network.groups = {shape.groups}.")
    if size % shape.f:
        raise BadInput(f"data.size must be a multiple of f={shape.f}, not {size}.")
    common = dict(
        in_channels=3, out_channels=3, block_out_channels=shape.channels, layers_per_block=shape.layers,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=shape.latent_channels, norm_num_groups=shape.groups, sample_size=size,
        mid_block_add_attention=shape.attention, scaling_factor=1.0,
    )  # fmt: skip
    if shape.regularisation == "kl":
        return AutoencoderKL(**common)
    if shape.regularisation == "vq":
        return VQModel(**common, num_vq_embeddings=shape.codebook, vq_embed_dim=shape.latent_channels)
    raise BadInput(f"network.regularisation must be 'kl' or 'vq', not '{shape.regularisation}'.")


class Reconstruction(nn.Module):
    """The autoencoder with its loss; forward(batch) -> (loss, scalars). Pixels are float [b,3,h,w] in [-1,1]."""

    def __init__(self, autoencoder: AutoencoderKL | VQModel, loss: AutoencoderLoss) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.weights = loss

    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor, str]:
        """(xr, regularisation loss, its name); the KL latent is sampled with the batch's noise."""
        x = batch["pixels"]
        if isinstance(self.autoencoder, VQModel):
            latent = self.autoencoder.encode(x).latents
            quantised, commitment, _ = self.autoencoder.quantize(latent)
            return self._decode_vq(quantised), self.weights.commitment * commitment, "commitment"
        posterior = self.autoencoder.encode(x).latent_dist
        z = posterior.mean + posterior.std * batch["noise"].to(posterior.mean.dtype)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return self.autoencoder.decode(z).sample, self.weights.kl * kl, "kl"

    def _decode_vq(self, quantised: Tensor) -> Tensor:
        return self.autoencoder.decoder(self.autoencoder.post_quant_conv(quantised))

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the terms."""
        reconstruction, regularisation, name = self.reconstruct(batch)
        error = (reconstruction.float() - batch["pixels"]).abs().mean()
        mse = (reconstruction.detach().float().clamp(-1, 1) - batch["pixels"]).square().mean() / 4
        loss = self.weights.pixel * error + regularisation.float()
        return loss, {"pixel": error.detach(), name: regularisation.detach(), "psnr": -10 * torch.log10(mse)}


class AutoencoderTask:
    """Trains an autoencoder on pictures, drawn so that each emoji counts equally."""

    def __init__(self, recipe: Recipe) -> None:
        self.shape = fill(AutoencoderNetwork, recipe.network, "network")
        self.loss = fill(AutoencoderLoss, recipe.loss, "loss")
        self.size = recipe.data.size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.autoencoder = build_autoencoder(self.shape, self.size)
        self.data = open_data(recipe)
        self.weights = torch.as_tensor(self.data.sampling_weights())
        self.phases = (Phase("autoencoder", Reconstruction(self.autoencoder, self.loss)),)

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Pixels in [-1,1] and the noise of the posterior sample."""
        rows = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        pixels = torch.from_numpy(self.data.images[rows.numpy()]).float() / 127.5 - 1
        side = self.size // self.shape.f
        return {
            "pixels": pixels,
            "noise": torch.randn(size, self.shape.latent_channels, side, side, generator=generator),
        }

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> None:
        """Eight pictures above their reconstructions."""
        batch = self.batch(step_generator(0, 0, 0, tag="sample"), 8)
        module = self.phases[0].module
        device = next(module.parameters()).device
        x = batch["pixels"]
        xr = module.reconstruct({k: v.to(device) for k, v in batch.items()})[0].float().cpu()
        save_grid(folder / f"step-{step:08d}.png", [x, xr], f"step {step}: source, reconstruction")

    def export(self, folder: Path) -> None:
        """Write diffusers' folder of the autoencoder."""
        self.autoencoder.save_pretrained(folder)
