"""Plug-and-Play: features and self-attention of the source's decoder hold the structure while the prompt changes.

Tumanyan, Geyer, Bagon, Dekel: "Plug-and-Play Diffusion Features for Text-Driven Image-to-Image Translation", CVPR
2023, arXiv 2211.12572, section 4. Implemented: the output of the residual branch of decoder layer 4 is replaced in the
first tau_f of the steps, queries and keys of the self-attention of decoder layers 4 to 11 in the first tau_A, in both
halves of guidance, from the source's recorded latents; over every inversion. Stable Diffusion has 12 decoder layers,
counted from 0: layer 4 is up_blocks.1.resnets.1. Other networks take the layer at the same depth, a third of theirs.
Not implemented: the authors' negative prompting; give the source prompt as negative prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.methods.inversions import EVERY, InversionParams
from sfumato.methods.job import Job
from sfumato.methods.params import PromptPair, option
from sfumato.methods.registry import method
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.layout import decoder
from sfumato.shifts.carry import CarryFeatures, into_all, queries_and_keys


@dataclass(frozen=True)
class PlugAndPlayParams(InversionParams):
    """Fractions of the authors' code (tau_f = 40 and tau_A = 25 of 50 steps), which inverts without guidance.

    The features of the one source go into both halves of guidance: at guidance scale 1 a null edit is the picture.
    """

    source_guidance_scale: float = option(1.0, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    feature_steps: float = option(
        0.8, "share of the steps in which the source's decoder features are kept", stage="edit", low=0, high=1
    )
    attention_steps: float = option(
        0.5, "share of the steps in which the source's decoder self-attention is kept", stage="edit", low=0, high=1
    )

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Refuse a network without the layers that are injected. Raises BadInput."""
        injection(network, self)


def injection(network: DiffusionModel, params: PlugAndPlayParams) -> list[Shift]:
    """The shifts of the method.

    Raises:
        BadInput: the decoder has no self-attention to keep.
    """
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
    summary="feature injection (CVPR 2023): the source's decoder features and self-attention hold the structure",
    params=PlugAndPlayParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="plug-and-play",
    handles=("condition", "features", "attention"),
)
def shifts(job: Job, params: PlugAndPlayParams) -> list[Shift]:
    """The source's features and self-attention in the target."""
    return injection(job.network, params)
