"""Whether a picture changed the way that its text did (Gal et al., "StyleGAN-NADA", SIGGRAPH 2022, section 4.2)."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import BadInput

#: Below this length a change of unit features is rounding.
_NOTHING = 1e-6


def directional_similarity(
    source_image: Float[Tensor, "b d"],
    edited_image: Float[Tensor, "b d"],
    source_text: Float[Tensor, "b d"],
    target_text: Float[Tensor, "b d"],
) -> Float[Tensor, " b"]:
    """cos(dI, dT) in [-1, 1], float64, with dI = E_I(edit) - E_I(source) and dT = E_T(target) - E_T(source).

    It is on the CPU, as MPS has no float64.
    Features are those of one dual encoder, of unit length. A picture that did not change has no direction: 0.
    Raises BadInput where source and target text are the same to the encoder.
    """
    if not differ(source_text, target_text).all():
        raise BadInput("source and target text must differ, or there is no direction between them.")
    dI = edited_image.cpu().double() - source_image.cpu().double()
    dT = target_text.cpu().double() - source_text.cpu().double()
    return F.cosine_similarity(dI, dT, dim=-1) * differ(source_image, edited_image)


def differ(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Bool[Tensor, " b"]:
    """Which rows are not one and the same feature, up to rounding; on the CPU."""
    return (a.cpu().double() - b.cpu().double()).norm(dim=-1) >= _NOTHING
