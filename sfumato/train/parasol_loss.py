"""The losses of PARASOL (arXiv 2303.06464, section 3.4):

    L = L_DM + w_s L_s + w_y L_y,    L_s = abar_t MSE(a_s, A(x')),    L_y = abar_t MSE(c_y, C(x'))

x' = D(P_t) is the decoded prediction of x_0. The paper weights all timesteps equally; here the weight is abar_t,
because P_t is close to a blurred mean image at high noise levels. L_s and L_y are means over the decoded images of a
batch, in which an image whose token of that modality was dropped counts as 0. If tokens are dropped with probability p,
the expected value is 1 - p times that of the images whose token was kept.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core.condition import Condition
from sfumato.core.step import predict_x0, to_epsilon
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.forward import forward
from sfumato.models.weight_changes import changed_weights
from sfumato.style.describers import Describers
from sfumato.style.tokens import ModalityTokens
from sfumato.train.noise import Timesteps
from sfumato.train.ranges import ranged
from sfumato.train.task import Batch


@dataclass(frozen=True)
class ParasolLoss(Timesteps):
    """Weights of the losses, and dropout of the tokens: table [loss]; extends `Timesteps`.

    Attributes:
        style: w_s.
        content: w_y.
        decoded: images of a batch whose prediction is decoded for L_s and L_y; 0 for none, which turns them off.
        drop_style: probability of replacing the style tokens by their null tokens.
        drop_content: probability of replacing the content tokens by their null tokens, independently.
    """

    style: float = ranged(100.0, low=0)
    content: float = ranged(100.0, low=0)
    decoded: int = ranged(2, low=0)
    drop_style: float = ranged(0.15, low=0, high=1)
    drop_content: float = ranged(0.15, low=0, high=1)


@dataclass(frozen=True, eq=False)
class Frozen:
    """The networks that are not trained."""

    model: DiffusionModel
    describers: Describers

    def __deepcopy__(self, memo: Any) -> "Frozen":
        return self


class ParasolTraining(nn.Module):
    """The tokens with their losses; forward(batch) -> (loss, scalars).

    The batch contains "x0", "eps" [b,c,h,w], "t" [b], "style" [b,a], "content" [b,c], "keep_style", "keep_content" [b].

    Args:
        tokens: the trained network.
        frozen: the U-Net, the autoencoder and the encoders; not parameters of this module.
        loss: weights.
    """

    def __init__(self, tokens: ModalityTokens, frozen: Frozen, loss: ParasolLoss) -> None:
        super().__init__()
        self.tokens, self.frozen, self.loss = tokens, frozen, loss
        self.register_buffer("abar", frozen.model.schedule.alphas_cumprod.float(), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L, and its three parts."""
        x0, eps, t = batch["x0"], batch["eps"], batch["t"]
        abar = self.abar[t][:, None, None, None]
        x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * eps
        tokens = self.tokens(batch["style"], batch["content"], batch["keep_style"], batch["keep_content"])
        unet, kind = self.frozen.model.unet, self.frozen.model.schedule.prediction_type
        condition = Condition(tokens=tokens, weight_changes=self.tokens.changes.by_name)
        with changed_weights(unet, condition):
            output = forward(unet, x_t, t, condition).float()
        found = to_epsilon(output, x_t, abar, kind)
        diffusion = (output - target(kind, x0, eps, abar)).square().mean()
        scalars = {"diffusion": diffusion.detach()}
        if not self.loss.decoded or not (self.loss.style or self.loss.content):
            return diffusion, scalars
        part = slice(0, self.loss.decoded)
        seen = self.frozen.model.codec.decode(predict_x0(x_t[part], found[part], abar[part]).float()).float()
        style, content = self._modalities(seen, batch, part)
        scalars |= {"style": style.detach(), "content": content.detach()}
        return diffusion + self.loss.style * style + self.loss.content * content, scalars

    def _modalities(self, seen: Float[Tensor, "n 3 h w"], batch: Batch, part: slice) -> tuple[Tensor, Tensor]:
        """L_s and L_y of decoded predictions: means over all rows, of which those with a dropped token are 0."""
        weight = self.abar[batch["t"][part]]
        found = []
        for name in ("style", "content"):
            error = (self.frozen.describers.of(name).embed(seen) - batch[name][part]).square().mean(dim=1)
            found.append((weight * batch[f"keep_{name}"][part] * error).mean())
        return found[0], found[1]


def target(kind: str, x0: Tensor, eps: Tensor, abar: Tensor) -> Tensor:
    """What a network of the given prediction type is trained to output."""
    if kind == "epsilon":
        return eps
    return x0 if kind == "sample" else abar.sqrt() * eps - (1 - abar).sqrt() * x0
