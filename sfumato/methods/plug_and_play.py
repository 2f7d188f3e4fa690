"""Plug-and-Play: inject decoder features and self-attention of the source to preserve the structure.

Tumanyan, Geyer, Bagon, Dekel: "Plug-and-Play Diffusion Features for Text-Driven Image-to-Image Translation", CVPR
2023, arXiv 2211.12572, section 4. Implemented: the output of the residual branch of decoder layer 4 is replaced in the
first tau_f of the steps, queries and keys of the self-attention of decoder layers 4 to 11 in the first tau_A, in both
halves of guidance. The injected values come from evaluations of the source at its recorded latents. The method edits
every inversion. Stable Diffusion has 12 decoder layers, counted from 0: layer 4 is up_blocks.1.resnets.1. In other
networks it is the layer at the same relative depth, one third. The source is inverted and evaluated under the source
prompt; the authors' code does both under the empty one: give the empty source prompt (`--from ""`) for that. Not
implemented: the authors' negative prompting; give the source prompt as negative prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.errors import BadInput
from sfumato.methods.inversions import EVERY, InversionParams
from sfumato.methods.job import Job
from sfumato.methods.params import PromptPair, option
from sfumato.methods.registry import method

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.models.diffusion_model import DiffusionModel


@dataclass(frozen=True)
class PlugAndPlayParams(InversionParams):
    """Shares of the steps as in the authors' code (tau_f = 40 and tau_A = 25 of 50), which inverts without guidance.

    The same features of the source are injected into both halves of guidance, so at guidance scale 1 an edit under
    the source prompt reproduces the image.
    """

    source_guidance_scale: float = option(1.0, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    feature_steps: float = option(
        0.8,
        "tau_f: share of the steps, from the first, in which the source's decoder features are injected",
        stage="edit",
        low=0,
        high=1,
    )
    attention_steps: float = option(
        0.5,
        "tau_A: share of the steps, from the first, in which the source's decoder self-attention is injected",
        stage="edit",
        low=0,
        high=1,
    )

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Refuse a network without self-attention in its decoder if attention_steps is not 0. Raises BadInput."""
        injection(network, self)


def injection(network: DiffusionModel, params: PlugAndPlayParams) -> list[Shift]:
    """The shifts of the method.

    Raises:
        BadInput: the decoder has no self-attention to inject.
    """
    from sfumato.models.layout import decoder
    from sfumato.shifts.carry import CarryFeatures, into_all, queries_and_keys

    layers = decoder(network.unet)
    fourth = len(layers) // 3
    attention = tuple(name for layer in layers[fourth:] for name in layer.self_attention)
    if params.attention_steps and not attention:
        raise BadInput("This network has no self-attention in its decoder: set attention_steps to 0.")
    return [
        CarryFeatures((layers[fourth].residual,), params.feature_steps, into_all),
        CarryFeatures(queries_and_keys(attention), params.attention_steps, into_all),
    ]


@method(
    "plug-and-play",
    summary="feature injection (CVPR 2023): the source's decoder features and self-attention keep the structure",
    params=PlugAndPlayParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="plug-and-play",
    handles=("condition", "features", "attention"),
)
def shifts(job: Job, params: PlugAndPlayParams) -> list[Shift]:
    """Inject the source's decoder features and self-attention into the target."""
    return injection(job.network, params)
