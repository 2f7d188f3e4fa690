"""Class labels, the input of the class embedding of a network; `class_labels` in diffusers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from sfumato.errors import BadInput


@dataclass(frozen=True)
class ClassLabels:
    """The labels that a network takes, as determined by `class_embed_type` and `num_class_embeds` of its configuration.

    Networks trained for classifier-free guidance have one more embedding than classes, for "no class". It is the last
    label, num_class_embeds - 1: 1000 in the ImageNet models of latent diffusion (arXiv 2112.10752) and DiT (arXiv
    2212.09748). The configuration does not record whether a network has this embedding, so this class does not treat it
    specially: pass it as the label of the negative condition.

    Attributes:
        count: labels are indices [rows] from 0 to count - 1 (class_embed_type None); None for the other types.
        width: labels are vectors [rows, width] ("identity", "projection", "simple_projection"). Where count and width
            are None, labels are numbers [rows] of at least 0, embedded like timesteps ("timestep").
        float32_only: whether diffusers can embed the labels in float32 networks only (UNet2DModel with "timestep").
    """

    count: int | None = None
    width: int | None = None
    float32_only: bool = False

    def __str__(self) -> str:
        if self.count is not None:
            return f"integers [rows] from 0 to {self.count - 1}"
        return "numbers [rows] of at least 0" if self.width is None else f"vectors [rows,{self.width}]"

    def read(self, labels: int | float | Sequence[Any] | Tensor) -> Tensor:
        """Convert labels to a tensor and check them.

        Args:
            labels: a tensor, one label, or a list of labels.

        Returns:
            int64 [rows] for indices, int64 or float32 [rows] for numbers, float32 [rows,d] for vectors.

        Raises:
            BadInput: the network does not take such labels; the message describes those that it takes.
        """
        try:
            values = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInput(f"labels must be {self}, not {labels!r:.100}.") from error
        values = values.float() if values.is_floating_point() else values
        values = values.reshape(1) if values.ndim == 0 and self.width is None else values
        if not self.fit(values) or not self._in_range(values):
            raise BadInput(f"labels must be {self}, not {labels!r:.100}.")
        return values if values.is_floating_point() else values.long()

    def fit(self, labels: Tensor) -> bool:
        """Whether labels have the right type and shape; their range is not checked."""
        whole = not labels.is_floating_point() and labels.dtype != torch.bool and not labels.is_complex()
        if self.width is not None:
            return labels.is_floating_point() and labels.ndim == 2 and labels.shape[1] == self.width
        return labels.ndim == 1 and (whole or (self.count is None and labels.is_floating_point()))

    def _in_range(self, labels: Tensor) -> bool:
        if self.count is not None:
            return bool(((labels >= 0) & (labels < self.count)).all())
        return bool(labels.isfinite().all()) and (self.width is not None or bool((labels >= 0).all()))


def class_labels(unet: Any) -> ClassLabels | None:
    """The labels that a UNet2DConditionModel or UNet2DModel takes, or None if it has no class embedding."""
    config, conditional = unet.config, isinstance(unet, UNet2DConditionModel)
    if unet.class_embedding is None:
        return None
    if config.class_embed_type is None:
        return ClassLabels(count=int(config.num_class_embeds))
    if config.class_embed_type == "timestep":
        return ClassLabels(float32_only=not conditional)
    if config.class_embed_type == "identity":
        return ClassLabels(width=int(unet.time_embedding.linear_2.out_features))
    return ClassLabels(width=int(config.projection_class_embeddings_input_dim))
