"""The loss of a delta-h: directional CLIP loss and distance from the unedited process (arXiv 2210.10960, section 3.3).

The images of a batch run through the edited steps t >= t_edit of the asymmetric process from their x_T. The loss is the
mean over these steps and over the images of

    L = lambda_clip (1 - cos(E_I(P_t^edit) - E_I(P_t), E_T(target) - E_T(source))) + lambda_l1 |P_t^edit - P_t|

with the directional loss of StyleGAN-NADA (Gal et al. 2021) on decoded predictions. P_t is the prediction of the
unedited process; |.| is the mean over the latent (the pixels of a model without an autoencoder). x_t is a constant in
every step. Differences from the public code: the directional loss is over all images of a batch, not only one; there is
one update with the gradients of all steps of a trajectory, not one update per step. The public code also multiplies
lambda_l1 by the cosine of the texts, uses -log((2 - L) / 2) instead of the directional loss L, and compares with
E_I(x_0) instead of E_I(P_t).
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.condition import Condition
from sfumato.core.rows import Rows
from sfumato.core.step import combine, direction, noise_in, predict_x0
from sfumato.errors import BadInput
from sfumato.metrics.text import DualEncoder
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.encoder_half import MIDDLE, EncoderHalf
from sfumato.models.taps import Tap
from sfumato.shifts.delta_networks import DeltaNetwork
from sfumato.train.asymmetric import Prepared, image_features
from sfumato.train.ranges import ranged
from sfumato.train.task import Batch

MEASURED = -1
"""Value of `t_edit` and `t_boost` that selects the timesteps measured on the images."""


@dataclass(frozen=True)
class DeltaHLoss:
    """The attribute, the weights of the loss and the interval of the edit: table [loss].

    Attributes:
        source: text that describes the images.
        target: text that describes them with the attribute.
        attribute: name of the attribute; "" for `target`.
        templates: sentences with {} in place of a text; features of texts are means over them.
        clip: lambda_clip, weight of the directional loss.
        l1: lambda_l1, weight of the difference from the unedited prediction.
        t_edit: the edit acts at timesteps t >= t_edit; -1 to measure it (`sfumato.train.asymmetric`).
        t_boost: quality boosting acts at timesteps t < t_boost; 0 for none, -1 to measure it.
    """

    source: str
    target: str
    attribute: str = ""
    templates: tuple[str, ...] = ("{}",)
    clip: float = ranged(1.0, low=0)
    l1: float = ranged(3.0, low=0)
    t_edit: int = ranged(MEASURED, low=MEASURED, high=999)
    t_boost: int = ranged(MEASURED, low=MEASURED, high=999)

    def check(self) -> None:
        """Raise BadInput for templates without a placeholder {}, and for texts that cannot be printed."""
        for template in self.templates or ("",):
            if template.count("{}") != 1:
                raise BadInput(
                    f'loss.templates must be sentences with one {{}} each, such as "a {{}}", not {template!r}.'
                )
        for text in (self.source, self.target, self.attribute or "-"):
            if not text.strip() or not text.isprintable():
                raise BadInput(f"loss.source, target and attribute must be texts in one line, not {text!r:.60}.")


@dataclass(frozen=True, eq=False)
class Frozen:
    """Networks and tensors that the loss uses but does not train; copies of a module share them.

    Attributes:
        model: the diffusion model.
        clip: the dual encoder.
        conditions: captions of the training images.
        found: their x_T and unedited predictions.
        direction: E_T(target) - E_T(source), [d].
        timesteps: timesteps of the run, in descending order; the first ones are edited.
    """

    model: DiffusionModel
    clip: DualEncoder
    conditions: Condition
    found: Prepared
    direction: Float[Tensor, " d"]
    timesteps: list[int]

    def __deepcopy__(self, memo: Any) -> "Frozen":
        return self


class _Added:
    """A tap that adds dh_t to h. The sum has a gradient with respect to `leaf`, a copy of dh_t without history."""

    module = MIDDLE

    def __init__(self, network: DeltaNetwork, t: int) -> None:
        self.network, self.t = network, t
        self.delta = self.leaf = torch.empty(0)

    def __call__(self, name: str, output: Tensor, rows: Rows) -> Tensor:
        self.delta = self.network(output.detach().float(), self.t)
        self.leaf = self.delta.detach().requires_grad_()
        return (output + self.leaf).to(output.dtype)


class AsymmetricTraining(nn.Module):
    """dh_t with the loss of its trajectory; forward(batch) -> (loss, scalars).

    The batch contains "rows" [b], the indices of training images. The gradient with respect to dh_t is computed
    immediately in each step, so that only the activations of one step are in memory. The returned loss has the value of
    L, and its gradient with respect to the weights is that of L.

    Args:
        delta: the trained network.
        frozen: the frozen networks and prepared tensors.
        loss: the weights of the loss.
        edited: number of edited steps.
    """

    def __init__(self, delta: DeltaNetwork, frozen: Frozen, loss: DeltaHLoss, edited: int) -> None:
        super().__init__()
        self.delta, self.frozen, self.loss, self.edited = delta, frozen, loss, edited

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean of L over the edited steps and the images, and its two parts without their weights."""
        rows, model = batch["rows"], self.frozen.model
        x, condition = self.frozen.found.x_T[rows], self.frozen.conditions[rows]
        below = model.schedule.previous(self.frozen.timesteps)
        parts, surrogates = [], []
        for k, t in enumerate(self.frozen.timesteps[: self.edited]):
            half, added = cast(Tap, EncoderHalf(constant=True)), _Added(self.delta, t)
            with torch.no_grad():
                eps = model.predict(x, t, condition, [half])
            level = model.schedule.abar(t)
            prediction = predict_x0(x, model.predict(x, t, condition, [half, added]), level)
            part = self._parts(prediction, k, rows)
            (gradient,) = torch.autograd.grad(self._weighted(part), added.leaf)
            surrogates.append((gradient * added.delta).sum())
            parts.append(part.detach())
            abar = model.schedule.abar(below[k])
            x = combine(prediction.detach(), direction(noise_in(x, eps, level), abar, 0.0), abar).to(x.dtype)
        means, surrogate = torch.stack(parts).mean(dim=0), torch.stack(surrogates).mean()
        scalars = {"direction": means[0], "l1": means[1]}
        return self._weighted(means) + (surrogate - surrogate.detach()), scalars

    def _parts(self, prediction: Tensor, k: int, rows: Int64[Tensor, " b"]) -> Float[Tensor, "2"]:
        """Directional loss and mean absolute difference of step k, means over the images."""
        frozen = self.frozen
        before, features = frozen.found.predictions[k][rows], frozen.found.features[k][rows]
        changed = image_features(frozen.clip, frozen.model.decode(prediction)) - features
        cosine = F.cosine_similarity(changed, frozen.direction[None], dim=-1)
        return torch.stack([(1 - cosine).mean(), (prediction - before).abs().mean().float()])

    def _weighted(self, parts: Float[Tensor, "2"]) -> Tensor:
        return self.loss.clip * parts[0] + self.loss.l1 * parts[1]
