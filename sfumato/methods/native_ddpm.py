"""Native DDPM inversion, the paper's own counter-example (arXiv 2304.06140, section 2.1).

The noise maps follow the generative process itself. They reconstruct, but another prompt loses the structure of the
picture: the method is here to be compared with.
"""

from collections.abc import Generator, Sequence
from typing import Any

from torch import Tensor

from sfumato.core.guidance import Guided
from sfumato.core.state import StepState
from sfumato.inversion import Inversion, invert_native
from sfumato.methods.edit_friendly import EditFriendlyParams, edit
from sfumato.methods.registry import method


def invert(
    guided: Guided,
    x0: Tensor,
    condition: Any,
    params: EditFriendlyParams,
    *,
    seeds: Sequence[int],
    batch: int | None,
) -> Generator[StepState, None, Inversion]:
    """Latents of the generative process that ends at x_0."""
    return (
        yield from invert_native(
            guided,
            x0,
            condition,
            steps=params.steps,
            eta=params.eta,
            seeds=seeds,
            exact=params.exact,
            batch=batch,
        )
    )


method(
    "native-ddpm",
    summary="native DDPM noise maps: reconstructs, loses structure when edited; for comparison",
    params=EditFriendlyParams,
    invert=invert,
    section="edit",
    handles=("condition", "noise map"),
)(edit)
