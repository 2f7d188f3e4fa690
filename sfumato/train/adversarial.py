"""PatchGAN discriminator and losses of the autoencoder (Isola et al., CVPR 2017; Esser et al., CVPR 2021, eq. 5 to 7).

    discriminator:  1/2 mean max(0, 1 - D(x)) + 1/2 mean max(0, 1 + D(xr))
    autoencoder:    ... + adversarial d_w g,    g = -mean D(xr),
                    d_w = min(|grad_L nll| / (|grad_L g| + 1e-4), 1e4)

where grad_L is the gradient with respect to the decoder's last layer and nll the sum of the pixel and perceptual terms.
D uses group normalisation instead of the batch normalisation of the official code, so that the scores of an image do
not depend on the rest of the batch. Both gradients are averaged over all processes before their norms are computed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.train.processes import mean_of_all
from sfumato.train.task import Batch

GROUPS = 8


class PatchDiscriminator(nn.Module):
    """PatchGAN discriminator D: images [b,3,h,w] in [-1,1] -> one score per overlapping patch, [b,1,h',w'].

    `layers` convolutions with stride 2 are followed by two with stride 1. With 3 layers the receptive field of a score
    is 70 x 70 pixels.

    Args:
        channels: width of the first convolution, a multiple of `GROUPS`.
        layers: number of convolutions with stride 2, at least 1.

    Raises:
        BadInput: `channels` or `layers` is out of its range.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        if channels % GROUPS:
            raise BadInput(f"loss.discriminator_channels must be a multiple of {GROUPS}, not {channels}.")
        if layers < 1:
            raise BadInput(f"loss.discriminator_layers must be at least 1, not {layers}.")
        blocks: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = channels
        for i in range(1, layers + 1):
            wider = channels * 2 ** min(i, 3)
            stride = 1 if i == layers else 2
            blocks += [nn.Conv2d(width, wider, 4, stride, padding=1, bias=False), nn.GroupNorm(GROUPS, wider)]
            blocks += [nn.LeakyReLU(0.2)]
            width = wider
        self.patches = nn.Sequential(*blocks, nn.Conv2d(width, 1, 4, padding=1))
        self.layers = layers
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def check(self, size: int) -> None:
        """Check that the output for images of side `size` is not empty.

        Raises:
            BadInput: `size` is below 3 * 2^layers pixels.
        """
        least = 3 * 2**self.layers
        if size < least:
            raise BadInput(
                f"{size} pixels (data.crop, or data.size without crops) are too few for loss.discriminator_layers = "
                f"{self.layers}: use at least {least}."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the patches, [b,1,h',w']; high for real images."""
        return self.patches(x)


def generator_loss(discriminator: nn.Module, reconstruction: Tensor) -> Tensor:
    """Adversarial loss of the autoencoder, g = -mean D(xr); its gradient reaches only the reconstruction.

    D is evaluated with detached weights. The autoencoder's update therefore leaves no gradients in D that its own
    optimizer or DistributedDataParallel would use.
    """
    detached = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    return -torch.func.functional_call(discriminator, detached, (reconstruction,)).float().mean()


def hinge_loss(real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss of the discriminator from its scores for real images and for reconstructions."""
    return (F.relu(1 - real.float()).mean() + F.relu(1 + made.float()).mean()) / 2


def adaptive_weight(nll: Tensor, g: Tensor, last_layer: Tensor, scale: float = 1.0) -> Tensor:
    """Adaptive weight d_w of the adversarial loss: a scalar in [0, 1e4], without gradient.

    Args:
        nll: the reconstruction terms, averaged over pixels.
        g: the generator's loss.
        last_layer: weight of the decoder's last convolution.
        scale: factor on both losses before differentiation; the result does not depend on it. The number of values of
            one image keeps the gradients of the averaged losses within the range of half precision.
    """
    norms = []
    for loss in (nll, g):
        (gradient,) = torch.autograd.grad(loss * scale, last_layer, retain_graph=True)
        norms.append(mean_of_all(gradient).float().norm() / scale)
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4)


class Discrimination(nn.Module):
    """The discriminator with its loss; forward(batch) -> (loss, scalars). It first reconstructs the batch of images.

    Args:
        discriminator: D, trained by this phase.
        reconstruction: the autoencoder, `autoencoder.Reconstruction`; not trained by this phase.
    """

    def __init__(self, discriminator: PatchDiscriminator, reconstruction: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator
        self._reconstruction = (reconstruction,)  # in a tuple, so that its weights are not parameters of this module

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss, and the mean scores of real images ("real") and reconstructions ("made")."""
        with torch.no_grad():
            made = self._reconstruction[0].reconstruct(batch)[0]
        real, made = self.discriminator(torch.cat([batch["pixels"], made.to(batch["pixels"].dtype)])).chunk(2)
        return hinge_loss(real, made), {"real": real.detach().mean(), "made": made.detach().mean()}
