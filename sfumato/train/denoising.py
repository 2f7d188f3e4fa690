"""The loss of a text-conditioned latent diffusion model (Rombach et al., CVPR 2022, section 3.2-3.3):

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,    L = w(t) |target - f(x_t, t, c)|^2

with target eps or v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0 (Salimans and Ho 2022), min-SNR weighting w (Hang et al.
2023; off by default), a loss of the cross-attention maps (`sfumato.train.grounding`; off by default), and skip dropout
(`sfumato.train.skips`; off by default).
"""

from contextlib import nullcontext

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from sfumato.core.condition import Condition
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.forward import forward
from sfumato.models.taps import tapped
from sfumato.train.grounding import grounding_loss
from sfumato.train.noise import DiffusionLoss
from sfumato.train.skips import skips_dropped
from sfumato.train.task import Batch


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
