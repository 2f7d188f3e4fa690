"""CLIP directional similarity (Gal et al., "StyleGAN-NADA", SIGGRAPH 2022, section 4.2)."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import BadInput

#: A difference of unit features with a smaller norm counts as rounding error.
_ROUNDING = 1e-6


def directional_similarity(
    source_image: Float[Tensor, "b d"],
    edited_image: Float[Tensor, "b d"],
    source_text: Float[Tensor, "b d"],
    target_text: Float[Tensor, "b d"],
) -> Float[Tensor, " b"]:
    """Cosine of the change of the image features with the change of the text features.

    cos(dI, dT) with dI = E_I(edit) - E_I(source) and dT = E_T(target) - E_T(source).

    Args:
        source_image: unit features of the source images, by the image encoder E_I.
        edited_image: unit features of the edited images.
        source_text: unit features of the source texts, by the text encoder E_T of the same dual encoder.
        target_text: unit features of the target texts.

    Returns:
        float64 in [-1, 1], 0 for images that did not change; on the CPU, since MPS does not support float64.

    Raises:
        BadInput: source and target text have the same features.
    """
    if not differ(source_text, target_text).all():
        raise BadInput("source and target text must differ: equal texts define no direction.")
    dI = edited_image.cpu().double() - source_image.cpu().double()
    dT = target_text.cpu().double() - source_text.cpu().double()
    return F.cosine_similarity(dI, dT, dim=-1) * differ(source_image, edited_image)


def differ(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Bool[Tensor, " b"]:
    """Which rows of unit features differ by more than rounding; on the CPU."""
    return (a.cpu().double() - b.cpu().double()).norm(dim=-1) >= _ROUNDING
