"""The first stage of latent diffusion (Rombach et al., CVPR 2022, section 3.1): KL- and VQ-regularised autoencoders.

Both use the classes of diffusers (AutoencoderKL, VQModel), so diffusers loads the exported folders. The loss is

    L = pixel |x - xr| + perceptual d(x, xr) + kl KL(q(z|x) || N(0, I)) + adversarial d_w g(xr)

with d from `sfumato.metrics.perceptual`, and d_w and g from `adversarial`. All terms are averaged over pixels: the
official code sums over them in the KL loss and averages in the VQ loss; here the weights have the same scale in both.
The official `logvar` is left out, because no optimizer there updates it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn

from sfumato.errors import BadInput
from sfumato.files import replaced_folder
from sfumato.metrics import load_perceptual
from sfumato.train.adversarial import Discrimination, PatchDiscriminator, adaptive_weight, generator_loss
from sfumato.train.binding import settings_of
from sfumato.train.crops import crops_with_edges
from sfumato.train.dataset import draw_pixels, exported_folder, open_data, save_grid
from sfumato.train.frozen import load_autoencoder, refuse_other_config
from sfumato.train.growing import grow
from sfumato.train.ranges import ranged
from sfumato.train.recipe import Recipe, fill
from sfumato.train.registry import task
from sfumato.train.seeds import step_generator
from sfumato.train.task import Batch, Phase


@dataclass(frozen=True)
class AutoencoderNetwork:
    """Architecture and initial weights of the autoencoder: table [network].

    Attributes:
        regularisation: "kl" or "vq".
        f: downsampling factor, pixels per latent along one side: 2, 4, 8, 16 or 32.
        latent_channels: channels of the latents.
        channels: width of each resolution level from full resolution down, log2(f) + 1 values.
        layers: residual blocks per level.
        attention: self-attention in the middle block.
        groups: groups of the group normalisation.
        codebook: number of VQ codes.
        start: folder of an exported autoencoder with the initial weights; "" for random weights. It has this
            architecture, or is a KL autoencoder for half the image size with latents of the same shape, to which one
            level is added (`sfumato.train.growing`).
        freeze_encoder: train only the decoder (requires `start`). The latents do not change, so a diffusion model
            trained on them stays valid.
    """

    regularisation: str = "kl"
    f: int = ranged(4, low=2)
    latent_channels: int = ranged(4, low=1)
    channels: tuple[int, ...] = ranged((32, 64, 128), low=1)
    layers: int = ranged(1, low=1)
    attention: bool = False
    groups: int = ranged(16, low=1)
    codebook: int = ranged(1024, low=1)
    start: str = ""
    freeze_encoder: bool = False


@dataclass(frozen=True)
class AutoencoderLoss:
    """Weights of the loss terms, at least 0: table [loss]. The perceptual and adversarial terms are skipped at 0.

    Attributes:
        pixel: weight of |x - xr|.
        kl: weight of the KL divergence, averaged over latent values.
        commitment: weight of the VQ commitment and codebook loss.
        perceptual: weight of the perceptual loss.
        perceptual_network: "efficientnet-lite0" (ImageNet), or a local folder with a dual encoder.
        adversarial: weight of the adversarial loss, in addition to its adaptive weight.
        adversarial_start: first training step of the adversarial loss and the discriminator.
        discriminator_channels: width of the discriminator's first layer, a multiple of 8.
        discriminator_layers: convolutions of stride 2 in the discriminator; with 3 it scores patches of 70 x 70 pixels.
    """

    pixel: float = ranged(1.0, low=0)
    kl: float = ranged(1e-4, low=0)
    commitment: float = ranged(1.0, low=0)
    perceptual: float = ranged(0.0, low=0)
    perceptual_network: str = "efficientnet-lite0"
    adversarial: float = ranged(0.0, low=0)
    adversarial_start: int = ranged(10_000, low=0)
    discriminator_channels: int = ranged(64, low=8)
    discriminator_layers: int = ranged(3, low=1)


def build_autoencoder(shape: AutoencoderNetwork, size: int) -> AutoencoderKL | VQModel:
    """Build an autoencoder with random weights.

    Args:
        shape: its architecture.
        size: side of the training images in pixels.

    Raises:
        BadInput: f is not in {2, 4, 8, 16, 32}, the number of widths is not log2(f) + 1, a width is not a multiple of
            `groups`, or `size` is not a multiple of f.
    """
    if shape.f not in (2, 4, 8, 16, 32):
        raise BadInput(f"network.f must be 2, 4, 8, 16 or 32, not {shape.f}.")
    levels = int(math.log2(shape.f)) + 1
    if len(shape.channels) != levels:
        raise BadInput(f"network.channels needs {levels} widths for f={shape.f}, not {len(shape.channels)}.")
    if any(c % shape.groups for c in shape.channels):
        raise BadInput(
            f"network.channels must be multiples of network.groups = {shape.groups}, not {list(shape.channels)}."
        )
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
        vq = VQModel(**common, num_vq_embeddings=shape.codebook, vq_embed_dim=shape.latent_channels)
        # The default of diffusers reproduces a bug of the first VQGAN code: beta = 0.25 multiplies the codebook term
        # instead of the commitment term (van den Oord et al., NeurIPS 2017, equation 3).
        vq.quantize.legacy = False
        return vq
    raise BadInput(f"network.regularisation must be 'kl' or 'vq', not '{shape.regularisation}'.")


class Reconstruction(nn.Module):
    """The autoencoder with its loss; forward(batch) -> (loss, scalars). Pixels are float [b,3,h,w] in [-1,1].

    Args:
        autoencoder: the autoencoder to train.
        loss: weights of the loss terms.
        perceptual: frozen network of the perceptual loss; None if its weight is 0.
        discriminator: D; None if the adversarial weight is 0. It is trained by a separate phase.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL | VQModel,
        loss: AutoencoderLoss,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.weights = loss
        # In tuples, so that their weights are not parameters of this module (not trained, averaged or saved with it).
        self._perceptual, self._discriminator = (perceptual,), (discriminator,)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Reconstruction":
        """Also move the frozen perceptual network to another device; the discriminator moves with its own phase."""
        if self._perceptual[0] is not None:
            self._perceptual[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Reconstruct a batch; the KL latents are sampled with the noise of the batch.

        Returns:
            The reconstruction [b,3,h,w] in [-1,1], the weighted KL or VQ loss, and scalars to log.
        """
        x = batch["pixels"]
        if isinstance(self.autoencoder, VQModel):
            latent = self.autoencoder.encode(x).latents
            quantised, commitment, (_, _, codes) = self.autoencoder.quantize(latent)
            loss = self.weights.commitment * commitment
            in_use = torch.tensor(float(codes.unique().numel()))
            return self._decode_vq(quantised), loss, {"commitment": loss.detach(), "codes": in_use}
        posterior = self.autoencoder.encode(x).latent_dist
        z = posterior.mean + posterior.std * batch["noise"].to(posterior.mean.dtype)
        kl = self.weights.kl * (posterior.kl().mean() / posterior.mean[0].numel())
        return self.autoencoder.decode(z).sample, kl, {"kl": kl.detach()}

    def _decode_vq(self, quantised: Tensor) -> Tensor:
        return self.autoencoder.decoder(self.autoencoder.post_quant_conv(quantised))

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the loss terms, and scalars to log; "psnr" is in dB."""
        x = batch["pixels"]
        reconstruction, regularisation, logged = self.reconstruct(batch)
        error = (reconstruction.float() - x).abs().mean()
        mse = (reconstruction.detach().float().clamp(-1, 1) - x).square().mean() / 4
        nll = self.weights.pixel * error
        scalars = {"pixel": error.detach(), **logged, "psnr": -10 * torch.log10(mse)}
        if (perceptual := self._perceptual[0]) is not None:
            distance = perceptual(reconstruction, x).mean()
            nll = nll + self.weights.perceptual * distance
            scalars["perceptual"] = distance.detach()
        loss = nll + regularisation.float()
        if self._discriminator[0] is not None and int(batch["step"]) >= self.weights.adversarial_start:
            g = generator_loss(self._discriminator[0], reconstruction)
            weight = adaptive_weight(nll, g, self.autoencoder.decoder.conv_out.weight, scale=x[0].numel())
            loss = loss + self.weights.adversarial * weight * g
            scalars |= {"adversarial": g.detach(), "adaptive_weight": weight}
        return loss, scalars


def _load_weights(autoencoder: AutoencoderKL | VQModel, folder: Path) -> None:
    start = load_autoencoder(folder)
    refuse_other_config(autoencoder, start, "network.start", folder)
    both_kl = isinstance(autoencoder, AutoencoderKL) and isinstance(start, AutoencoderKL)
    if both_kl and len(start.config.block_out_channels) + 1 == len(autoencoder.config.block_out_channels):
        grow(autoencoder, start)
        return
    try:
        autoencoder.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise BadInput(
            f"network.start: the autoencoder in {folder} does not have the architecture that the recipe's [network] "
            "gives; correct [network], or leave network.start out."
        ) from error


def _freeze_encoder(autoencoder: AutoencoderKL | VQModel, shape: AutoencoderNetwork) -> None:
    if not shape.start:
        raise BadInput("network.freeze_encoder needs network.start: without it the encoder would keep random weights.")
    autoencoder.encoder.requires_grad_(False)
    autoencoder.quant_conv.requires_grad_(False)


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
            _load_weights(self.autoencoder, exported_folder(self.shape.start))
        if self.shape.freeze_encoder:
            _freeze_encoder(self.autoencoder, self.shape)
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
