"""The loss of an autoencoder of latent diffusion (Rombach et al., CVPR 2022, section 3.1):

    L = pixel |x - xr| + perceptual d(x, xr) + kl KL(q(z|x) || N(0, I)) + adversarial d_w g(xr)

with d from `sfumato.metrics.perceptual`, and d_w and g from `sfumato.train.adversarial`. All terms are averaged over
pixels: the official code sums over them in the KL loss and averages in the VQ loss; here the weights have the same
scale in both. The official `logvar` is left out, because no optimizer there updates it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn

from sfumato.train.adversarial import adaptive_weight, generator_loss
from sfumato.train.ranges import ranged
from sfumato.train.task import Batch


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
