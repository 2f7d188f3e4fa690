"""PARASOL: the content of one image in the style of another, with a separate guidance scale for each.

Canet Tarres, Ruta, Bui, Collomosse: "PARASOL: Parametric Style Control for Diffusion Image Synthesis", CVPRW 2024,
arXiv 2303.06464. Implemented: conditioning on the tokens [m_s; c_y] of a style and a content descriptor (section 3.2),
guidance by both modalities (3.3), the inversion of the content image with its own style in the first lambda steps
(3.5), matching of the mean and covariance of colours, several styles and contents with weights, and texts in place of
images. The networks that map descriptors to tokens are trained with `sfumato train parasol`; without their file the
image is not edited.

Any inversion that stores latents (`EVERY`) can be used. By default, the image is inverted under the source prompt,
without guidance. With `invert_with` = own-tokens, it is inverted under the tokens [m_y; c_y] of the image itself, with
both guidance scales, and the first lambda steps of the edit use the same condition; if lambda is the number of steps,
the image is reconstructed (section 3.5). Of the U-Net, which the paper trains with the tokens, only changes of the key
and value projections of cross-attention are trained; they are part of the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.errors import BadInput
from sfumato.options.inversions import EVERY
from sfumato.options.parasol import FROM_STEPS, ParasolParams

if TYPE_CHECKING:
    from sfumato.core.shift import Shift


@method(
    "parasol",
    summary="parametric style control (CVPRW 2024): a style and a content descriptor, each with its scale",
    params=ParasolParams,
    inversion="ddim",
    accepts=EVERY,
    under_source=True,
    section="parasol",
    handles=("condition",),
    generates=True,
)
def shifts(job: Job, params: ParasolParams) -> list[Shift]:
    """Condition and guidance of both modalities; no shifts without a PARASOL file."""
    if params.saved is None:
        return []
    found = params.descriptors
    own_steps = round(0.4 * len(job.timesteps)) if params.lam == FROM_STEPS else params.lam
    if not job.has_source and (own_steps or any(each is None for each in found.values())):
        raise BadInput("A generated image has no source to take style and content from: give both, and lam = 0.")
    return [params.modalities(job.network, found["style"], found["content"], own_steps)]
