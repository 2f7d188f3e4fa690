"""The patch GAN of the autoencoder (Isola et al., CVPR 2017; Esser et al., CVPR 2021, equations 5 to 7).

    discriminator:  1/2 mean max(0, 1 - D(x)) + 1/2 mean max(0, 1 + D(xr))
    autoencoder:    ... + adversarial d_w g,    g = -mean D(xr),
                    d_w = min(|grad_L nll| / (|grad_L g| + 1e-4), 1e4)

where grad_L is the gradient in the decoder's last layer and nll the pixel and perceptual terms. D is normalised by
groups of channels and not, as in the official code, over the batch, so that what it says of a picture does not depend
on the other pictures of its process; the two gradients are averaged over all processes before their norms are taken.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.train.processes import mean_of_all
from sfumato.train.task import Batch

GROUPS = 8


class PatchDiscriminator(nn.Module):
    """D: pictures [b,3,h,w] in [-1,1] -> one score for each overlapping patch, [b,1,h',w'].

    `layers` convolutions halve the side, two more leave it; with 3 layers a score sees 70 x 70 pixels.
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
        """Refuse pictures that the convolutions would shrink to nothing.

        Raises:
            BadInput: `size` is below 2^layers * 3 pixels.
        """
        least = 3 * 2**self.layers
        if size < least:
            raise BadInput(
                f"data.size = {size} is too small for loss.discriminator_layers = {self.layers}: at least {least}."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Scores; a high one says "a real picture"."""
        return self.patches(x)


def generator_loss(discriminator: nn.Module, reconstruction: Tensor) -> Tensor:
    """g = -mean D(xr), with a gradient into the reconstruction alone.

    The discriminator runs on detached copies of its weights: the autoencoder's turn leaves no gradient in them, for
    the optimizer of the discriminator's turn or the reducer of several processes to find.
    """
    detached = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    return -torch.func.functional_call(discriminator, detached, (reconstruction,)).float().mean()


def hinge_loss(real: Tensor, made: Tensor) -> Tensor:
    """The discriminator's loss of its scores for real pictures and for reconstructions."""
    return (F.relu(1 - real.float()).mean() + F.relu(1 + made.float()).mean()) / 2


def adaptive_weight(nll: Tensor, g: Tensor, last_layer: Tensor, scale: float = 1.0) -> Tensor:
    """d_w, without gradient, in [0, 1e4].

    Args:
        nll: the reconstruction terms, a mean over pixels.
        g: the generator's loss.
        last_layer: weight of the decoder's last convolution.
        scale: factor on both losses before they are differentiated. It cancels; the number of pixels of one picture
            keeps the gradients of means within the range of half precision, whatever the batch.
    """
    norms = []
    for loss in (nll, g):
        (gradient,) = torch.autograd.grad(loss * scale, last_layer, retain_graph=True)
        norms.append(mean_of_all(gradient).float().norm() / scale)
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4)


class Discrimination(nn.Module):
    """The discriminator's turn; forward(batch) -> (loss, scalars). It draws its own pictures and reconstructs them.

    Args:
        discriminator: D, trained here.
        reconstruction: the autoencoder with its loss, used here as it is.
    """

    def __init__(self, discriminator: PatchDiscriminator, reconstruction: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator
        self._beside = (reconstruction,)  # in a tuple, so that its weights are not this phase's

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The hinge loss, and the mean scores of both kinds of picture."""
        with torch.no_grad():
            made = self._beside[0].reconstruct(batch)[0]
        real, made = self.discriminator(torch.cat([batch["pixels"], made.to(batch["pixels"].dtype)])).chunk(2)
        return hinge_loss(real, made), {"real": real.detach().mean(), "made": made.detach().mean()}
