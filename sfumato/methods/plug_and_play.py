"""Plug-and-Play: injection of decoder features and self-attention of the source, to preserve the structure.

Tumanyan, Geyer, Bagon, Dekel: "Plug-and-Play Diffusion Features for Text-Driven Image-to-Image Translation", CVPR 2023,
arXiv 2211.12572, section 4. The output of the residual branch of decoder layer 4 is replaced in the first fraction
tau_f of the steps, and the queries and keys of the self-attention of decoder layers 4 to 11 in the first fraction
tau_A, for both the conditional and the negative prediction of classifier-free guidance. The injected values are
computed by evaluating the source at its recorded latents. The method can be combined with any inversion that stores
latents (`EVERY`). Stable Diffusion has 12 decoder layers, counted from 0; layer 4 is up_blocks.1.resnets.1. In other
networks, the layer at the same relative depth (one third) is used. The source is inverted and evaluated under the
source prompt. The authors' code uses the empty prompt; give an empty source prompt (`--from ""`) to reproduce this. Not
implemented: the authors' negative prompting; give the source prompt as negative prompt instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.errors import BadInput
from sfumato.options.inversions import EVERY, InversionParams
from sfumato.options.option import option
from sfumato.options.params import PromptPair

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.models.diffusion_model import DiffusionModel


@dataclass(frozen=True)
class PlugAndPlayParams(InversionParams):
    """Fractions of the steps as in the authors' code (tau_f = 40 and tau_A = 25 of 50), and inversion without guidance.

    The same features of the source are injected into the conditional and the negative prediction. At guidance scale 1,
    an edit under the source prompt therefore reproduces the image.
    """

    source_guidance_scale: float = option(1.0, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    feature_steps: float = option(
        0.8,
        "tau_f: fraction of the steps, from the first, in which the source's decoder features are injected",
        stage="edit",
        low=0,
        high=1,
    )
    attention_steps: float = option(
        0.5,
        "tau_A: fraction of the steps, from the first, in which the source's decoder self-attention is injected",
        stage="edit",
        low=0,
        high=1,
    )

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that the decoder has self-attention layers if attention_steps is not 0. Raises BadInput."""
        injection(network, self)


def injection(network: DiffusionModel, params: PlugAndPlayParams) -> list[Shift]:
    """Return the shifts of the method.

    Raises:
        BadInput: attention_steps is not 0 and the decoder has no self-attention.
    """
    from sfumato.models.layout import decoder
    from sfumato.shifts.carry import InjectFeatures, into_all, queries_and_keys

    layers = decoder(network.unet)
    fourth = len(layers) // 3
    attention = tuple(name for layer in layers[fourth:] for name in layer.self_attention)
    if params.attention_steps and not attention:
        raise BadInput("This network has no self-attention in its decoder: set attention_steps to 0.")
    return [
        InjectFeatures((layers[fourth].residual,), params.feature_steps, into_all),
        InjectFeatures(queries_and_keys(attention), params.attention_steps, into_all),
    ]


@method(
    "plug-and-play",
    summary="feature injection (CVPR 2023): the source's decoder features and self-attention preserve the structure",
    params=PlugAndPlayParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="plug-and-play",
    handles=("condition", "features", "attention"),
)
def shifts(job: Job, params: PlugAndPlayParams) -> list[Shift]:
    """Inject the source's decoder features and self-attention into the target."""
    return injection(job.network, params)
